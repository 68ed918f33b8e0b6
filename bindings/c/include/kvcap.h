/*
 * The KV capsule for C (bindings/c/README.md). Made by cbindgen from bindings/c/src: `bindings/c/run --header`.
 *
 * A call returns KVCAP_OK, or a code and, where `error` is not NULL, a handle that tells more. Handles are freed by their
 * own function, which takes NULL too. Structures that a caller fills begin as zeros; a NULL pointer to one stands for
 * zeros. Texts are UTF-8 and end with a zero; those that are returned belong to their handle. Handles but kvcap_verifying
 * may be used by several threads at a time.
 */

#ifndef KVCAP_H
#define KVCAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 Everything was done.
 */
#define KVCAP_OK 0

/*
 The library is at fault: a call ended where none may, and did nothing that can be seen. Handles stay good to free.
 */
#define KVCAP_PANIC -1

/*
 The caller's own progress function has ended the call; nothing appears.
 */
#define KVCAP_ENDED -2

/*
 Reason that a call returned another value than KVCAP_OK.
 */
typedef struct kvcap_error kvcap_error;

/*
 Named facts, each with any number of values: what the result of a call holds (bindings/c/README.md).
 */
typedef struct kvcap_facts kvcap_facts;

/*
 A capsule that was verified and whose key was unwrapped.
 */
typedef struct kvcap_opened kvcap_opened;

/*
 Settings that hold for the calls it is given to.
 */
typedef struct kvcap_profile kvcap_profile;

/*
 A rung that a session was resumed on, and its state.
 */
typedef struct kvcap_resumed kvcap_resumed;

/*
 A session: an append-only log, and checkpoints with states.
 */
typedef struct kvcap_session kvcap_session;

/*
 Sessions of a profile's tenant, one subject or many.
 */
typedef struct kvcap_sessions kvcap_sessions;

/*
 A capsule that is verified as its bytes come. One thread at a time.
 */
typedef struct kvcap_verifying kvcap_verifying;

/*
 A capsule or a state: a file, memory, or a function that reads. The first that is not NULL counts.
 */
typedef struct kvcap_source {
  /*
   Path of a file.
   */
  const char *path;
  /*
   Memory, which must not change while it is used: until the call returns, or the handle that it makes is freed.
   */
  const uint8_t *data;
  /*
   Copies `length` bytes from `offset` to `to`, and returns 0; another value where it cannot. Called by one thread at a
   time, not always the same.
   */
  int32_t (*read)(void *context,
                  uint64_t offset,
                  uint8_t *to,
                  size_t length);
  /*
   Handed to `read`.
   */
  void *context;
  /*
   Bytes of memory, or of what `read` reads; not used for a file.
   */
  uint64_t length;
} kvcap_source;

/*
 Terms that a capsule is judged on. Zeros: on those of the user's own profile.
 */
typedef struct kvcap_terms {
  /*
   Whom to trust, whose keys, which model; NULL for the user's own.
   */
  const struct kvcap_profile *profile;
  /*
   Names of checks that may be left out.
   */
  const char *const *accept_unchecked;
  /*
   Their number.
   */
  size_t accept_unchecked_count;
  /*
   Paths of ancestors; where there are none, they are looked for in the capsule's folder.
   */
  const char *const *chain;
  /*
   Their number.
   */
  size_t chain_count;
  /*
   Id of the session that the capsule must be of.
   */
  const char *session;
  /*
   Its version, or NULL for any.
   */
  const uint64_t *session_version;
  /*
   Its replay cursor, or NULL for any.
   */
  const uint64_t *replay_cursor;
  /*
   Element type of keys, such as `f16`, given together with that of values.
   */
  const char *key_dtype;
  /*
   Element type of values.
   */
  const char *value_dtype;
} kvcap_terms;

/*
 Statements on a state that is sealed, beside what it says itself.
 */
typedef struct kvcap_seal_options {
  /*
   Ids of the tokens that the state has seen, which bind the capsule to its prompt; NULL where the state has them.
   */
  const uint32_t *tokens;
  /*
   Their number.
   */
  size_t token_count;
  /*
   Binds the capsule to no prompt.
   */
  bool danger_no_prefix;
  /*
   Compresses what the encoding leaves.
   */
  bool compress;
  /*
   The capsule may be restored once only.
   */
  bool single_use;
  /*
   Name of the runtime, such as `llama-cpp`; found in the state where it is NULL.
   */
  const char *runtime;
  /*
   Its version.
   */
  const char *runtime_version;
  /*
   The conversation, sealed beside the state.
   */
  const uint8_t *history;
  /*
   Its bytes.
   */
  size_t history_length;
  /*
   The agent's own state, sealed beside the state.
   */
  const uint8_t *agent_state;
  /*
   Its bytes.
   */
  size_t agent_state_length;
  /*
   Id of the session that it is a checkpoint of, with the next two.
   */
  const char *session;
  /*
   Version of the checkpoint.
   */
  uint64_t session_version;
  /*
   Number of the last event that the state has seen.
   */
  uint64_t replay_cursor;
  /*
   Number within its session, or NULL.
   */
  const uint64_t *sequence;
  /*
   Path of a capsule that the state goes on from.
   */
  const char *parent;
} kvcap_seal_options;

/*
 Place for bytes: a file, memory, or a function that writes. The first that is not NULL counts; without one, bytes are
 counted and go nowhere.
 */
typedef struct kvcap_output {
  /*
   Path of a file, which appears whole or not at all.
   */
  const char *path;
  /*
   Memory.
   */
  uint8_t *data;
  /*
   Takes `length` bytes for `offset`, and returns 0; another value where it cannot. Offsets come in any order, called by
   one thread at a time, not always the same.
   */
  int32_t (*write)(void *context,
                   uint64_t offset,
                   const uint8_t *from,
                   size_t length);
  /*
   Handed to `write`.
   */
  void *context;
  /*
   Bytes of memory that there are.
   */
  uint64_t capacity;
  /*
   A file that exists is replaced.
   */
  bool replace;
} kvcap_output;

/*
 Function that a long call tells how far it is.
 */
typedef struct kvcap_progress {
  /*
   Told bytes done and bytes in all, a hundred times or so; returns false to end the call. Called by one thread at a
   time, not always the same.
   */
  bool (*told)(void *context,
               uint64_t done,
               uint64_t all);
  /*
   Handed to `told`.
   */
  void *context;
} kvcap_progress;

/*
 A part of a state: layers, positions, or both, each from a first to one before the last.
 */
typedef struct kvcap_part {
  /*
   First layer.
   */
  uint32_t first_layer;
  /*
   The layer after the last; 0 for all layers.
   */
  uint32_t end_layer;
  /*
   First position.
   */
  uint64_t first_position;
  /*
   The position after the last; 0 for all positions.
   */
  uint64_t end_position;
} kvcap_part;

/*
 A setting (docs/reference/config.md, with `_` for `-`); one that is a list is given once for each.
 */
typedef struct kvcap_setting {
  /*
   Its name.
   */
  const char *name;
  /*
   Its value as text.
   */
  const char *value;
} kvcap_setting;

/*
 A change to a registry.
 */
typedef struct kvcap_change {
  /*
   `add` lists a key; `retire` ends its signing now, and what it signed before stays good; `compromise` voids everything
   that it has ever signed; `revoke` revokes a capsule.
   */
  const char *kind;
  /*
   The key: its id, a file of a public key, or its text. The capsule: a file, which a key of the registry has signed, or
   an id, which nobody verifies.
   */
  const char *what;
  /*
   The issuer that a key is listed for; NULL for the one that its file names.
   */
  const char *issuer;
} kvcap_change;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Returns the library's version.
 */
const char *kvcap_version(void);

/*
 Seals a runtime's saved state. `length` becomes that of the capsule, also where the output's memory is too short
 (KVC-944) or there is none.

 Facts: id, length, state_length, positions (first, and the one after the last), expires, notes.
 */
int32_t kvcap_seal(const struct kvcap_source *state,
                   const struct kvcap_terms *on,
                   const struct kvcap_seal_options *options,
                   const struct kvcap_output *output,
                   const struct kvcap_progress *progress,
                   uint64_t *length,
                   struct kvcap_facts **facts,
                   struct kvcap_error **error);

/*
 Verifies a capsule with public keys alone: header, then every byte of the body and of its ancestors.

 Facts of a verdict: id, key, issuer, audience, tenant, subject, expires, judged_at, model_id, model_name, runtime,
 runtime_version, positions, chain, session, session_version, replay_cursor, unchecked (names of the checks that were left
 out), unaccepted (those of them that the caller has not accepted), body (chunks and bytes that were checked).
 */
int32_t kvcap_verify(const struct kvcap_source *capsule,
                     const struct kvcap_terms *on,
                     bool header_only,
                     const struct kvcap_progress *progress,
                     struct kvcap_facts **facts,
                     struct kvcap_error **error);

/*
 Begins to verify a capsule as its bytes come.
 */
int32_t kvcap_verifying_new(const struct kvcap_terms *on,
                            struct kvcap_verifying **verifying,
                            struct kvcap_error **error);

/*
 Takes the next bytes. `facts` become the header's verdict once it is judged, and are NULL before.
 */
int32_t kvcap_verifying_feed(struct kvcap_verifying *verifying,
                             const uint8_t *data,
                             size_t length,
                             struct kvcap_facts **facts,
                             struct kvcap_error **error);

/*
 Says that no more bytes come, and accepts the capsule, if it still may be. Facts of a verdict.
 */
int32_t kvcap_verifying_finish(struct kvcap_verifying *verifying,
                               struct kvcap_facts **facts,
                               struct kvcap_error **error);

/*
 Frees what verifies.
 */
void kvcap_verifying_free(struct kvcap_verifying *verifying);

/*
 Verifies a capsule and opens it; one for single use is used up. `tokens` are the ids of the prompt, or NULL. What lies
 in memory must stay until the handle is freed.
 */
int32_t kvcap_open(const struct kvcap_source *capsule,
                   const struct kvcap_terms *on,
                   const uint32_t *tokens,
                   size_t token_count,
                   struct kvcap_opened **opened,
                   struct kvcap_error **error);

/*
 Returns the judgement of an opened capsule: facts of a verdict.
 */
int32_t kvcap_opened_facts(const struct kvcap_opened *opened,
                           struct kvcap_facts **facts,
                           struct kvcap_error **error);

/*
 Tells the length of the whole state.
 */
int32_t kvcap_opened_length(const struct kvcap_opened *opened,
                            uint64_t *length,
                            struct kvcap_error **error);

/*
 Copies the token ids that were sealed beside the state to `tokens`, at most `capacity` of them; `count` becomes how many
 there are.
 */
int32_t kvcap_opened_tokens(const struct kvcap_opened *opened,
                            uint32_t *tokens,
                            size_t capacity,
                            uint64_t *count,
                            struct kvcap_error **error);

/*
 Writes the state that was opened; with `part`, that part of it as plain tensors (safetensors). `length` becomes that of
 what is written, also where the output's memory is too short (KVC-944) or there is none.
 */
int32_t kvcap_opened_write(const struct kvcap_opened *opened,
                           const struct kvcap_part *part,
                           const struct kvcap_output *output,
                           const struct kvcap_progress *progress,
                           uint64_t *length,
                           struct kvcap_error **error);

/*
 Frees an opened capsule.
 */
void kvcap_opened_free(struct kvcap_opened *opened);

/*
 Reads what a capsule says of itself: its header alone, no key. UNVERIFIED: nobody has vouched for any of it.

 Facts: id, key, issuer, audience, tenant, subject, scope, issued_at, expires, renew_until, single_use, session,
 session_version, replay_cursor, model_id, model_name, runtime, runtime_version, format, positions, prompt_tokens, prompt,
 layers, recipients, recipient_kinds, parent, length.
 */
int32_t kvcap_inspect(const struct kvcap_source *capsule,
                      struct kvcap_facts **facts,
                      struct kvcap_error **error);

/*
 Reads a model's identity: a folder, a GGUF file or a .kvid file. Facts: id, weights, config, name, vocabulary.
 */
int32_t kvcap_model_id(const char *model,
                       const struct kvcap_setting *given,
                       size_t count,
                       struct kvcap_facts **facts,
                       struct kvcap_error **error);

/*
 Makes a signing key in the file `path` and its public key in `path.pub`. Facts of a key: id, public, issuer, public_path.
 */
int32_t kvcap_new_signing_key(const char *path,
                              const char *issuer,
                              const char *passphrase,
                              struct kvcap_facts **facts,
                              struct kvcap_error **error);

/*
 Makes a wrapping key in the file `path`: `symmetric` where `kind` is NULL, or `x25519` or `x-wing`, whose public key goes
 to `path.pub`. Facts of a key.
 */
int32_t kvcap_new_wrapping_key(const char *path,
                               const char *kind,
                               const char *passphrase,
                               struct kvcap_facts **facts,
                               struct kvcap_error **error);

/*
 Reads a public signing key: a file, or the key's text. Facts of a key.
 */
int32_t kvcap_read_public_key(const char *key,
                              struct kvcap_facts **facts,
                              struct kvcap_error **error);

/*
 Returns how many values a fact has: 0 where it is not known.
 */
size_t kvcap_facts_count(const struct kvcap_facts *facts,
                         const char *name);

/*
 Returns a value as text, or NULL where there is none. It belongs to the facts.
 */
const char *kvcap_facts_text(const struct kvcap_facts *facts,
                             const char *name,
                             size_t index);

/*
 Returns a value as a number, or 0 where there is none.
 */
uint64_t kvcap_facts_number(const struct kvcap_facts *facts,
                            const char *name,
                            size_t index);

/*
 Frees facts.
 */
void kvcap_facts_free(struct kvcap_facts *facts);

/*
 Makes a profile of settings, and nothing that is set elsewhere.
 */
int32_t kvcap_profile_new(const struct kvcap_setting *given,
                          size_t count,
                          const char *passphrase,
                          struct kvcap_profile **profile,
                          struct kvcap_error **error);

/*
 Loads a profile of the user's configuration, its default where `name` is NULL; settings that are given come first.
 */
int32_t kvcap_profile_load(const char *name,
                           const struct kvcap_setting *given,
                           size_t count,
                           const char *passphrase,
                           struct kvcap_profile **profile,
                           struct kvcap_error **error);

/*
 Makes a profile with keys of its own in the user's configuration, as `kvcap init` does, and loads it.
 */
int32_t kvcap_profile_create(const char *name,
                             const char *issuer,
                             const struct kvcap_setting *given,
                             size_t count,
                             const char *passphrase,
                             struct kvcap_profile **profile,
                             struct kvcap_error **error);

/*
 Returns all that is set, by the settings' names: paths and public keys, no secret.
 */
int32_t kvcap_profile_facts(const struct kvcap_profile *profile,
                            struct kvcap_facts **facts,
                            struct kvcap_error **error);

/*
 Frees a profile. Handles that were made with it stay good.
 */
void kvcap_profile_free(struct kvcap_profile *profile);

/*
 Makes a root key in the file `path` and its public key in `path.pub`. Facts of a key.
 */
int32_t kvcap_new_root_key(const char *path,
                           const char *passphrase,
                           struct kvcap_facts **facts,
                           struct kvcap_error **error);

/*
 Makes version 1 of a registry in the file `path`, which lists nothing and is valid for `ttl` seconds; `root_key` is the
 secret root key's file, `passphrase` its own or NULL.

 Facts of a registry: version, root, issued_at, expires, keys, revoked.
 */
int32_t kvcap_registry_create(const char *path,
                              const char *root_key,
                              const char *passphrase,
                              uint64_t ttl,
                              struct kvcap_facts **facts,
                              struct kvcap_error **error);

/*
 Writes the next version of a registry, with all of the changes or none; without one it only lives longer. It is valid for
 `ttl` seconds; where that is NULL, as long as the one before. Facts of a registry.
 */
int32_t kvcap_registry_change(const char *path,
                              const char *root_key,
                              const char *passphrase,
                              const struct kvcap_change *changes,
                              size_t count,
                              const uint64_t *ttl,
                              struct kvcap_facts **facts,
                              struct kvcap_error **error);

/*
 Makes a handle on the sessions of a profile, the user's own where it is NULL, in `folder`, or where the program keeps
 them.
 */
int32_t kvcap_sessions_new(const struct kvcap_profile *profile,
                           const char *folder,
                           struct kvcap_sessions **sessions,
                           struct kvcap_error **error);

/*
 Tells the ids of a user's sessions, the last written first. `user` stands for the profile's subject, which it is where it
 is NULL. Facts: sessions.
 */
int32_t kvcap_sessions_list(const struct kvcap_sessions *sessions,
                            const char *user,
                            struct kvcap_facts **facts,
                            struct kvcap_error **error);

/*
 Frees the handle. Sessions that were loaded with it stay good.
 */
void kvcap_sessions_free(struct kvcap_sessions *sessions);

/*
 Loads a session by its whole id, or makes it. `user` as above.
 */
int32_t kvcap_session_load_or_create(const struct kvcap_sessions *sessions,
                                     const char *id,
                                     const char *user,
                                     struct kvcap_session **session,
                                     struct kvcap_error **error);

/*
 Tells what a session has. Facts: id, versions, and those of its newest checkpoint.
 */
int32_t kvcap_session_facts(const struct kvcap_session *session,
                            struct kvcap_facts **facts,
                            struct kvcap_error **error);

/*
 Tells the events, from the first. Facts, each with a value an event: seq, kind, text.
 */
int32_t kvcap_session_events(const struct kvcap_session *session,
                             struct kvcap_facts **facts,
                             struct kvcap_error **error);

/*
 Appends an event of a kind (user, assistant, tool, milestone, note), which is kept when this returns; `seq` becomes its
 number.
 */
int32_t kvcap_session_append(const struct kvcap_session *session,
                             const char *kind,
                             const char *said,
                             uint64_t *seq,
                             struct kvcap_error **error);

/*
 Saves a version: the log so far, and `state` where it is not NULL, which is sealed as an increment where it can be. It is
 kept when this returns.

 Facts of a checkpoint: version, at, replay_cursor, turns, messages, capsule, token_count.
 */
int32_t kvcap_session_save(const struct kvcap_session *session,
                           const struct kvcap_source *state,
                           const struct kvcap_seal_options *options,
                           const struct kvcap_progress *progress,
                           struct kvcap_facts **facts,
                           struct kvcap_error **error);

/*
 Takes back what came after a turn, and makes the next version there. Turn 0 is the beginning. Facts of a checkpoint.
 */
int32_t kvcap_session_revert_to_turn(const struct kvcap_session *session,
                                     uint64_t turn,
                                     struct kvcap_facts **facts,
                                     struct kvcap_error **error);

/*
 Resumes: verifies and opens the best state that is left, or what it has in common with `tokens`, the request's, where they
 are not NULL. `reserve` is how many tokens the context must still have room for.
 */
int32_t kvcap_session_resume(const struct kvcap_session *session,
                             const uint32_t *tokens,
                             size_t token_count,
                             uint64_t reserve,
                             struct kvcap_resumed **resumed,
                             struct kvcap_error **error);

/*
 Frees a session.
 */
void kvcap_session_free(struct kvcap_session *session);

/*
 Tells how a session was resumed. Facts: rung (exact, shorter, history-only, fresh), sentence, code (the number of the
 reason that it is no better one), token_count, events_after (none where the state was cut).
 */
int32_t kvcap_resumed_facts(const struct kvcap_resumed *resumed,
                            struct kvcap_facts **facts,
                            struct kvcap_error **error);

/*
 Returns the state file's bytes, and their number in `length`; NULL where there is no state. They belong to the handle.
 */
const uint8_t *kvcap_resumed_state(const struct kvcap_resumed *resumed,
                                   uint64_t *length);

/*
 Frees what a session was resumed with.
 */
void kvcap_resumed_free(struct kvcap_resumed *resumed);

/*
 Returns the number of the code, as the call did: KVC-402 is 402. Its meaning never changes (spec/errors.md).
 */
int32_t kvcap_error_code(const struct kvcap_error *error);

/*
 Returns the code's name, such as `time.expired`.
 */
const char *kvcap_error_name(const struct kvcap_error *error);

/*
 Returns a sentence for the person in front.
 */
const char *kvcap_error_text(const struct kvcap_error *error);

/*
 Returns what the error is about, a path or a setting, or NULL.
 */
const char *kvcap_error_where(const struct kvcap_error *error);

/*
 Returns what was expected, or NULL.
 */
const char *kvcap_error_expected(const struct kvcap_error *error);

/*
 Returns what was found, or NULL.
 */
const char *kvcap_error_found(const struct kvcap_error *error);

/*
 Returns all that a stranger may hear.
 */
const char *kvcap_error_public(const struct kvcap_error *error);

/*
 Frees an error.
 */
void kvcap_error_free(struct kvcap_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KVCAP_H */
