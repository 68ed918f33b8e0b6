// The native module, named for its platform.
const { platform, arch } = process
const libc = platform === 'linux' ? (process.report.getReport().header.glibcVersionRuntime ? '-gnu' : '-musl') : ''
module.exports = require(`./kvcap.${platform}-${arch}${platform === 'win32' ? '-msvc' : libc}.node`)
