-- what relays know their own pieces at an edge by (http-v1 HTTP-K-11): 244 random bits
CREATE TABLE kvcap_edge (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea NOT NULL
);
INSERT INTO kvcap_edge (key) SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
