-- What servers that share a database know (http-v1 §13). Times are the database's own, so that no server's clock decides.

-- capsules that are kept; `object` is the key of the bytes in the bucket
CREATE TABLE kvcap_capsule (
    space bytea NOT NULL,
    id bytea NOT NULL,
    object text NOT NULL UNIQUE,
    tag bytea NOT NULL,
    bytes bigint NOT NULL,
    expires bigint NOT NULL,
    tenant bytea NOT NULL,
    lineage bytea NOT NULL,
    parent bytea,
    sha256 bytea,
    PRIMARY KEY (space, id)
);
CREATE INDEX kvcap_capsule_lineage ON kvcap_capsule (space, lineage);
CREATE INDEX kvcap_capsule_expires ON kvcap_capsule (expires);

-- capsules that are coming: a lease on a name, whose token is the object's key
CREATE TABLE kvcap_claim (
    space bytea NOT NULL,
    id bytea NOT NULL,
    object text NOT NULL UNIQUE,
    tenant bytea NOT NULL,
    bytes bigint NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (space, id)
);
CREATE INDEX kvcap_claim_until ON kvcap_claim (until);

-- what a tenant has: 0 before a name, or 1 and the name
CREATE TABLE kvcap_tenant (
    tenant bytea PRIMARY KEY,
    capsules bigint NOT NULL DEFAULT 0,
    kept bigint NOT NULL DEFAULT 0,
    coming bigint NOT NULL DEFAULT 0
);

-- objects that nothing names any more
CREATE TABLE kvcap_garbage (
    object text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now(),
    removed boolean NOT NULL DEFAULT false
);

-- what verifiers remember (registry-v1 §5)
CREATE TABLE kvcap_memory (
    kind smallint NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, key)
);
