"""python -m kvcap_ref verify | open | seal | renew | rewrap | keygen | vectors | codecs | session | beside"""

import argparse
import json
import os
import secrets
import struct
import sys
import time
from pathlib import Path

from . import beside_set, chain, codec_set, ed25519, hpke, keys, kvid, manifest, prefix, raw, recipients, renew, seal, session_set, states, vectors, verify
from .envelope import Claims
from .errors import Refusal, require


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Refusal(940, str(error)) from None


def write(path, data, mode=0o666):
    """Through a temporary file in the same folder, so that no half-written output has the name."""
    temporary = f"{path}.tmp"
    try:
        require(not os.path.exists(path), 941, path)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise Refusal(940, str(error)) from None


def trust_of(args):
    return [keys.read_trusted(path) for path in args.trust]


def expected_of(args):
    audiences = frozenset(args.audience) if args.audience else None
    return verify.Expected(audiences=audiences, subject=args.subject, org=args.org, scope=args.scope)


# Secret and public key file, and how the one gives the other.
KEY_KINDS = {
    "sign": (keys.SECRET_SIGN, keys.PUBLIC, ed25519.public_key),
    "wrap": (keys.SECRET_WRAP, None, None),
    "hpke": (keys.SECRET_HPKE, keys.PUBLIC_HPKE, hpke.X25519.public),
    "x-wing": (keys.SECRET_XWING, keys.PUBLIC_XWING, hpke.XWing.public),
}


def cmd_keygen(args):
    secret = secrets.token_bytes(32)
    secret_kind, public_kind, public_of = KEY_KINDS[args.kind]
    write(args.output, f"# KV capsule {args.kind} key\n{keys.format_key(secret_kind, secret)}\n".encode(), 0o600)
    if public_kind:
        public = keys.format_key(public_kind, public_of(secret))
        write(args.output + ".pub", f"# KV capsule public key\n{public}\n".encode())


def cmd_verify(args):
    check = verify.verify_header if args.header_only else verify.verify
    verified = check(read(args.capsule), trust_of(args), args.now, expected_of(args))
    claims, m = verified.claims, verified.manifest
    print(f"verified: issuer {claims.iss}, {len(m.streams)} streams, positions {m.positions[0]} to {m.positions[1]}")


def secret_key(path):
    key = keys.read_recipient(path)
    require(isinstance(key, recipients.Secret), 942, "a public key opens nothing")
    return key


def cmd_open(args):
    wrapping_key, parents = secret_key(args.wrap_key), [read(path) for path in args.parent]
    members = chain.verify(read(args.capsule), parents, trust_of(args), args.now, expected_of(args))
    members = chain.open_members(members, wrapping_key)
    opened = members[-1]
    for member in members:
        if args.profile and 15 in member.manifest.context:
            member.use(read(args.profile))
    if args.streams:
        os.makedirs(args.streams)
        for i in range(len(opened.manifest.streams)):
            write(os.path.join(args.streams, f"{i:04}.bin"), opened.plain(i))
    if args.output:
        write(args.output, states.restore(members))


def read_tokens(path):
    data = read(path)
    try:
        return json.loads(data)
    except ValueError:
        require(len(data) % 4 == 0, 944, "token ids")
        return list(struct.unpack(f"<{len(data) // 4}I", data))


def cmd_seal(args):
    sign_seed, issuer = keys.read_signer(args.sign_key)
    wrapping_keys = [keys.read_recipient(path) for path in args.wrap_key]
    banks, residue = raw.read(read(args.state))
    model, tokenizer, ropes, layers, context_length = kvid.read(args.model)
    tokens = read_tokens(args.tokens)
    value = prefix.prefix_value(tokens)
    secrets_of = [key for key in wrapping_keys if isinstance(key, recipients.Secret)]
    require(secrets_of, 944, "public keys alone give no prefix key")
    prefix_key = prefix.prefix_key(secrets_of[0].key)
    sections = [
        seal.section(manifest.TOKENS, struct.pack(f"<{len(tokens)}I", *tokens)),
        seal.section(manifest.RESIDUE, residue),
        seal.section(manifest.PREFIX, value),
    ]
    context = {
        1: args.suite,
        2: model,
        3: tokenizer,
        4: {1: "raw", 2: args.runtime_version, 3: "safetensors", 4: []},
        5: ropes,
        6: {1: 1, 2: prefix.prefix_key_id(prefix_key), 3: prefix.commit(prefix_key, value), 4: len(tokens)},
        7: [0, len(tokens)],
        8: 0,
        9: context_length,
        10: [layers, list(range(1, layers))],
        11: [],
    }
    now = args.now
    claims = Claims(args.issuer or issuer, args.audience, now + args.ttl, now, now, b"", args.scope, args.subject, args.org)
    write(args.output, seal.seal(claims, context, banks + sections, sign_seed, wrapping_keys))


def seconds(text):
    return int(text[:-1]) * 86_400 if text.endswith("d") else int(text)


def cmd_renew(args):
    sign_seed = keys.read_key(args.sign_key, keys.SECRET_SIGN)
    exp = args.now + args.ttl
    write(args.output, renew.renew(read(args.capsule), trust_of(args), sign_seed, args.now, exp))


def cmd_rewrap(args):
    sign_seed = keys.read_key(args.sign_key, keys.SECRET_SIGN)
    others = [keys.read_recipient(path) for path in args.to]
    write(
        args.output,
        renew.rewrap(
            read(args.capsule),
            trust_of(args),
            sign_seed,
            secret_key(args.wrap_key),
            others,
            args.now,
            os.urandom,
            args.audience,
        ),
    )


def cmd_vectors(args):
    return vectors.run(args.folder, args.all)


def cmd_codecs(args):
    return codec_set.run(args.file)


def parser():
    top = argparse.ArgumentParser(prog="kvcap_ref", description="the independent implementation of the KV capsule")
    verbs = top.add_subparsers(dest="verb", required=True)

    def verb(name, function):
        p = verbs.add_parser(name)
        p.set_defaults(function=function)
        return p

    def reading(p):
        p.add_argument("capsule")
        p.add_argument("--trust", action="append", required=True, metavar="PUB")
        p.add_argument("--audience", action="append")
        p.add_argument("--subject")
        p.add_argument("--org")
        p.add_argument("--scope", default="kv:restore")
        p.add_argument("--now", type=int, default=int(time.time()))

    def new_header(p):
        p.add_argument("capsule")
        p.add_argument("-o", "--output", required=True)
        p.add_argument("--trust", action="append", required=True, metavar="PUB")
        p.add_argument("--sign-key", required=True)
        p.add_argument("--at", dest="now", type=int, default=int(time.time()))

    p = verb("keygen", cmd_keygen)
    p.add_argument("kind", choices=KEY_KINDS)
    p.add_argument("-o", "--output", required=True)
    p = verb("verify", cmd_verify)
    reading(p)
    p.add_argument("--header-only", action="store_true")
    p = verb("open", cmd_open)
    reading(p)
    p.add_argument("--wrap-key", required=True)
    p.add_argument("-o", "--output", help="the runtime's state file")
    p.add_argument("--parent", action="append", default=[], help="a capsule that it continues: its parent first")
    p.add_argument("--profile", help="the profile that its codecs decode with (.kvtc)")
    p.add_argument("--streams", metavar="DIR", help="every stream in a file of its own")
    p = verb("seal", cmd_seal)
    p.add_argument("state", help="a safetensors file")
    p.add_argument("-o", "--output", required=True)
    p.add_argument("--model", required=True, metavar="KVID")
    p.add_argument("--sign-key", required=True)
    p.add_argument("--wrap-key", action="append", required=True)
    p.add_argument("--tokens", required=True, help="token ids: JSON or u32 little-endian")
    p.add_argument("--ttl", type=int, default=86_400, metavar="SECONDS")
    p.add_argument("--suite", type=int, default=1)
    p.add_argument("--issuer", help="the issuer that the signing key's file names where not given")
    p.add_argument("--audience", default="local")
    p.add_argument("--subject")
    p.add_argument("--org")
    p.add_argument("--scope", default="kv:restore")
    p.add_argument("--runtime-version", default="")
    p.add_argument("--now", type=int, default=int(time.time()))
    p = verb("renew", cmd_renew)
    new_header(p)
    p.add_argument("--ttl", type=seconds, required=True, metavar="SECONDS|DAYSd")
    p = verb("rewrap", cmd_rewrap)
    new_header(p)
    p.add_argument("--wrap-key", required=True)
    p.add_argument("--to", action="append", required=True, metavar="KEY")
    p.add_argument("--audience")
    p = verb("vectors", cmd_vectors)
    p.add_argument("folder")
    p.add_argument("--all", action="store_true", help="a line for every vector, not only for those that differ")
    p = verb("session", lambda args: session_set.run(args.file))
    p.add_argument("file", type=Path, help="testvectors/session/vectors.json.gz")
    p = verb("beside", lambda args: beside_set.run(args.file))
    p.add_argument("file", type=Path, help="testvectors/beside/vectors.json")
    p = verb("codecs", cmd_codecs)
    p.add_argument("file", type=Path, help="testvectors/codec/vectors.json.gz")
    return top


def main():
    args = parser().parse_args()
    try:
        return args.function(args) or 0
    except Refusal as refusal:
        print(f"kvcap_ref: error[KVC-{refusal.code}]: {refusal}", file=sys.stderr)
        return refusal.exit


if __name__ == "__main__":
    sys.exit(main())
