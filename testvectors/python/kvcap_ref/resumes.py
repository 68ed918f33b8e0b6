"""Sessions: what can be cut, what a runtime's count says of a resume, and what is kept, of session-v1."""

from . import manifest, verify
from .errors import Refusal
from .session import SENTENCES, from_json, list_of, members, number, text
from .states.restore import ADAPTERS, by_position

MAX_OBSERVATION, MAX_OBSERVATIONS, MAX_CHAIN = 4096, 2048, 16
RUNTIMES = ADAPTERS.keys() - {"raw"}

# §7 What can be cut


def is_whole(header):
    """SES-L-5, of the first bytes of a capsule; who signed it is judged elsewhere."""
    frame, cose = verify.framed(header)
    told = manifest.parse(cose.payload, frame, cose.claims)
    start, end = told.positions
    banks = [stream for stream in told.streams if isinstance(stream, manifest.Bank)]
    cut = all(by_position(bank) and bank.rows[1] == start for bank in banks)
    # a prompt without a scheme has no number of tokens
    one_to_one = told.prefix.get(4) in (end, end + 1)
    return not (told.context[4][1] in RUNTIMES and cut and one_to_one)


# §§7, 10, 12 Resumes

RUNG = {"rung": lambda value: value in SENTENCES}
CLAIM = {**RUNG, "milliseconds": number, "positions": number, "ineffective": list_of(text)}
OBSERVATION = {**RUNG, **dict.fromkeys(("at", "milliseconds", "asked", "restored", "evaluated"), number)}


def confirm(claim, reuse, milliseconds):
    """SES-L-8: (observation, None), or (None, the states that are refused with KVC-926)."""
    members(claim, CLAIM, {"code": number, "state": text})
    asked = reuse["restored"] + reuse["evaluated"]
    if reuse["restored"] < min(claim["positions"], asked) - 1:
        return None, [*claim["ineffective"], claim["state"]]
    observation = {
        "at": claim["milliseconds"] // 1000,
        "rung": claim["rung"],
        "milliseconds": reuse.get("milliseconds", max(0, milliseconds - claim["milliseconds"])),
        "asked": asked,
        "restored": reuse["restored"],
        "evaluated": reuse["evaluated"],
    }
    more = {"code": claim.get("code"), "device": reuse.get("device")}
    return observation | {name: value for name, value in more.items() if value is not None}, None


def whole_lines(data):
    """SES-F-3: the lines of a file without a torn one."""
    *lines, torn = data.split(b"\n")
    return lines[:-1] if lines and not torn and 0 in lines[-1] else lines


def read_observation(line):
    try:
        value = from_json(line.decode(), MAX_OBSERVATION)
    except UnicodeDecodeError as error:
        raise Refusal(950, str(error)) from None
    return members(value, OBSERVATION, {"code": number, "device": text})


def appended(lines, line):
    """SES-F-7: of too many lines the newer half stays."""
    return [*(lines[-MAX_OBSERVATIONS // 2 :] if len(lines) >= MAX_OBSERVATIONS else lines), line]


# §8 Saving, keeping


def may_be_continued(capsule, now, expires):
    """SES-S-3: it lives until half of the time is over, and its chain has room for one more."""
    lives = 2 * (capsule["expires"] - now) >= max(0, expires - now)
    return lives and len(capsule["ancestors"]) + 2 <= MAX_CHAIN


def kept(versions, pinned, keep):
    """SES-S-4: versions and capsules that are kept, and those that may go."""
    newest = sorted((one["version"] for one in versions), reverse=True)
    with_state = max((one["version"] for one in versions if "capsule" in one), default=None)
    stay = {*newest[: max(keep, 1)], *(set(pinned) & set(newest))}
    stay |= set() if with_state is None else {with_state}

    def named(one):
        capsule = one.get("capsule")
        return {capsule["id"], *capsule["ancestors"]} if capsule else set()

    needed = set().union(*(named(one) for one in versions if one["version"] in stay))
    others = set().union(*map(named, versions)) - needed
    return {
        "versions": sorted(stay),
        "capsules": sorted(needed),
        "removable_versions": sorted(set(newest) - stay),
        "removable_capsules": sorted(others),
    }
