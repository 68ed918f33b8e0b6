"""Runs vectors that name an operation: accepted ones must give the same, refused ones the same code."""

from .errors import Refusal


def problem(vector, operations):
    """What differs from the vector, or None."""
    try:
        output = operations[vector["operation"]](vector["input"])
    except Refusal as refusal:
        return None if refusal.code == vector["code"] else f"code {refusal.code}, {vector['code']} expected"
    if vector["code"]:
        return f"accepted, {vector['code']} expected"
    return None if output == vector["output"] else f"output differs: {output}"[:400]


def run(index, operations, what):
    return report(index, lambda vector: problem(vector, operations), what)


def report(index, problem, what):
    """Prints what differs of each vector. Returns the exit status."""
    if index["format"] != 1:
        raise ValueError(f"format of the {what}")
    problems = [(vector["name"], found) for vector in index["vectors"] if (found := problem(vector))]
    for name, found in problems:
        print(f"{name:40} {found}")
    print(f"{len(index['vectors'])} {what}: {len(problems)} not as expected")
    return 1 if problems else 0
