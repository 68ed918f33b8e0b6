-- The order of sessions' versions (http-v1 §12.1).

-- sessions that have one; who puts a version holds the row
CREATE TABLE kvcap_session (
    space bytea NOT NULL,
    session text COLLATE "C" NOT NULL,
    PRIMARY KEY (space, session)
);

-- versions, each of a capsule that is kept
CREATE TABLE kvcap_session_version (
    space bytea NOT NULL,
    session text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    cursor bigint NOT NULL,
    put bigint NOT NULL,
    capsule bytea NOT NULL,
    states bytea[] NOT NULL,
    PRIMARY KEY (space, session, version),
    FOREIGN KEY (space, session) REFERENCES kvcap_session ON DELETE CASCADE
);
CREATE INDEX kvcap_session_version_capsule ON kvcap_session_version (space, capsule);
