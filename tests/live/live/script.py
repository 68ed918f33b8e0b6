"""What is asked of a coding agent on one day, turn by turn, and what its tools answer."""

#: what the day is about, in each request first
SYSTEM = "You are a coding agent. Repository: parcel, branch fix-dates. Answer in one sentence."

#: the user's words of each turn; what a tool answered, where one was called
TURNS = [
    ("Where are dates parsed?", "src/dates.rs:41: pub fn parse(text: &str) -> Result<Date>"),
    ("Which test fails today?", "test leap_year ... FAILED: left 59, right 60"),
    ("Read the failing test.", None),
    ("What does parse do with 29 February?", None),
    ("Show the table of month lengths.", "const DAYS: [u8; 12] = [31, 28, 31, 30, 31, 30];"),
    ("It is too short. Write all twelve.", None),
    ("Add the rule for leap years.", "edited src/dates.rs, 6 lines"),
    ("Run that one test again.", "test leap_year ... ok"),
    ("Start the long test job on the build machine.", "job 4711 submitted to builder-2"),
    ("Decide: keep the old name parse.", None),
    ("Meanwhile, look at time zones.", "src/zones.rs:12: pub enum Zone"),
    ("Which zones are known?", None),
    ("What happens with an unknown one?", None),
    ("Make it an error with its name.", "edited src/zones.rs, 3 lines"),
    ("Write a test for it.", None),
    ("Does it compile?", "warning: unused variable: offset"),
    ("Remove the variable.", "edited src/zones.rs, 1 line"),
    ("Which callers must change?", "src/main.rs:88: let zone = Zone::of(name);"),
    ("Change main so that it prints the error.", None),
    ("Add two lines to the changelog.", "edited CHANGELOG.md, 2 lines"),
    ("What does job 4711 say?", "job 4711 done: 212 passed, 1 failed"),
    ("Which one failed?", "test zones::summer ... FAILED"),
    ("Read what summer expects.", None),
    ("Is the rule of the last Sunday right?", None),
    ("Count the days of October again.", None),
    ("Correct it.", "edited src/zones.rs, 2 lines"),
    ("Is that in the changelog?", None),
    ("Run summer again.", "test zones::summer ... ok"),
    ("Now all of zones.", "14 passed"),
    ("Name what is still open.", None),
    ("Leave winter for tomorrow.", None),
    ("Write the message of the commit.", None),
    ("Shorter, please.", None),
    ("Commit it.", "[fix-dates 9f3c2d1] dates: leap years, unknown zones"),
    ("Push the branch.", "branch fix-dates pushed"),
    ("Open a draft of the request.", "request 88, draft"),
    ("Who should review it?", None),
    ("Ask Mara.", "request 88: review asked of mara"),
    ("Sum up the day.", None),
    ("What comes first tomorrow?", None),
]

#: asked on the branch, in the place of the thirteenth
OTHER = ("Or should it fall back to UTC?", None)

#: the state of the work, when the job was submitted and when it was done
OBJECTIVE = "Dates and zones of parcel are parsed without a wrong day."
REPOSITORY = {"remote": "https://example.org/parcel", "branch": "fix-dates", "commit": "51b08aa", "dirty": True}
DECISIONS = ["parse keeps its name"]


def working(status):
    """The agent state with the job in this status."""
    job = {"id": "4711", "what": "all tests", "where": "builder-2", "submitted": 1795939200, "status": status}
    return {"objective": OBJECTIVE, "repository": REPOSITORY, "jobs": [job], "decisions": DECISIONS}
