"""Registries that are written: keys come and go, and capsules are revoked."""

import pytest

import kvcap


@pytest.fixture
def root(tmp_path):
    return kvcap.new_root_key(tmp_path / "root.key", passphrase="a passphrase")


def refused(code, call, *args, **named):
    with pytest.raises(kvcap.KvcapError) as said:
        call(*args, **named)
    assert said.value.code == code, said.value


def test_a_registry_lists_keys_and_revokes_capsules(root, profile, settings, state, tmp_path):
    path, by = tmp_path / "keys.registry", {"root_key": tmp_path / "root.key", "passphrase": "a passphrase"}
    refused(946, kvcap.create_registry, path, root_key=tmp_path / "root.key", ttl=3600)
    made = kvcap.create_registry(path, ttl=3600, **by)
    assert (made.version, made.root, made.keys, made.revoked) == (1, root.id, [], [])
    refused(941, kvcap.create_registry, path, ttl=3600, **by)
    capsule = kvcap.seal(state, tmp_path / "a.kvcap", profile=profile, danger_no_prefix=True)
    other = settings | {"trust": [], "registry": path, "registry_root": root.public_path}
    verifier = kvcap.Profile(**other)
    refused(301, kvcap.verify, tmp_path / "a.kvcap", profile=verifier)

    next = kvcap.change_registry(path, add=[tmp_path / "issuer.key.pub"], ttl=7200, **by)
    assert next.version == 2 and next.expires - next.issued_at == 7200
    assert next.keys == [kvcap.read_public_key(str(tmp_path / "issuer.key.pub")).id]
    assert kvcap.verify(tmp_path / "a.kvcap", profile=verifier).id == capsule.id

    # all of the changes or none
    refused(311, kvcap.change_registry, path, revoke=["0" * 31 + "1"], add=[tmp_path / "issuer.key.pub"], **by)
    assert kvcap.change_registry(path, **by).revoked == []
    assert kvcap.change_registry(path, revoke=[tmp_path / "a.kvcap"], **by).revoked == [capsule.id]
    refused(409, kvcap.verify, tmp_path / "a.kvcap", profile=verifier)
    refused(301, kvcap.change_registry, path, retire=["00" * 16], **by)
    assert kvcap.change_registry(path, compromise=next.keys, **by).version == 5


def test_a_second_key_of_an_issuer_is_listed_where_the_issuer_is_named(root, keys):
    path, by = keys / "keys.registry", {"root_key": keys / "root.key", "passphrase": "a passphrase"}
    kvcap.create_registry(path, ttl=3600, **by)
    second = kvcap.new_signing_key(keys / "second.key", issuer="prefill.example.com")
    kvcap.change_registry(path, add=[keys / "issuer.key.pub"], **by)
    refused(944, kvcap.change_registry, path, add=[keys / "second.key.pub"], **by)
    refused(312, kvcap.change_registry, path, add=[(keys / "second.key.pub", "other.example.com")], **by)
    both = kvcap.change_registry(path, add=[(keys / "second.key.pub", "prefill.example.com")], **by)
    assert second.id in both.keys and len(both.keys) == 2
