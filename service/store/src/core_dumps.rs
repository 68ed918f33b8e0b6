//! No image of this process on a disk when it crashes.

/// Allows this process, and what it starts, no core dump. On Linux a limit of 1 byte is what stops a dump to a program
/// as well, where a limit of 0 stops one to a file alone (`fs/coredump.c`). Swap is another matter: memory is not
/// locked, since the limit of locked memory is far below a state.
pub fn allow_none() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let most = if cfg!(target_os = "linux") { 1 } else { 0 };
        let most = getrlimit(Resource::Core)
            .maximum
            .map_or(most, |now| now.min(most));
        // a lower limit can always be set
        let _lower = setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        );
    }
}
