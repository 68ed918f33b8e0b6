/* Every call, over files, memory and functions: `calls FIXTURES FOLDER`. C11, and C++17 as it is. */
#include "check.h"

typedef struct place {
    const char *fixtures;
    const char *folder;
    kvcap_profile *profile;
} place;

static char *sign_key, *wrap_key, *model;

static kvcap_profile *profile_with(const char *folder, const char *name, const char *value) {
    char *trust = joined(folder, "issuer.key.pub");
    kvcap_setting settings[] = {
        {"sign_key", sign_key}, {"wrap_key", wrap_key}, {"trust", trust},
        {"model", model},       {"ttl", "1h"},          {name, value},
    };
    kvcap_profile *profile = NULL;
    DONE(kvcap_profile_new(settings, name ? 6 : 5, NULL, &profile, &error));
    free(trust);
    return profile;
}

static void keys(const place *at) {
    kvcap_facts *facts = NULL;
    DONE(kvcap_new_signing_key(sign_key, "prefill.example.com", NULL, &facts, &error));
    CHECK(kvcap_facts_count(facts, "public") == 1);
    CHECK(strcmp(kvcap_facts_text(facts, "issuer", 0), "prefill.example.com") == 0);
    kvcap_facts *read = NULL;
    DONE(kvcap_read_public_key(kvcap_facts_text(facts, "public_path", 0), &read, &error));
    CHECK(strcmp(kvcap_facts_text(read, "id", 0), kvcap_facts_text(facts, "id", 0)) == 0);
    kvcap_facts_free(read);
    kvcap_facts_free(facts);
    DONE(kvcap_new_wrapping_key(wrap_key, NULL, NULL, NULL, &error));
    REFUSED(941, kvcap_new_wrapping_key(wrap_key, NULL, NULL, NULL, &error));
    char *other = joined(at->folder, "other.key");
    REFUSED(944, kvcap_new_wrapping_key(other, "rsa", NULL, NULL, &error));
    DONE(kvcap_new_wrapping_key(other, "x-wing", "a passphrase", &facts, &error));
    CHECK(kvcap_facts_count(facts, "public") == 1);
    kvcap_facts_free(facts);
    free(other);
}

static uint8_t *sealed(const place *at, const kvcap_source *state, size_t *length) {
    kvcap_seal_options options;
    memset(&options, 0, sizeof options);
    options.danger_no_prefix = true;
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = at->profile;
    uint64_t needed = 0;
    DONE(kvcap_seal(state, &terms, &options, NULL, NULL, &needed, NULL, &error));
    CHECK(needed > 0);
    uint8_t *capsule = (uint8_t *)malloc(needed);
    CHECK(capsule != NULL);
    kvcap_output output;
    memset(&output, 0, sizeof output);
    output.data = capsule;
    output.capacity = needed - 1;
    uint64_t written = 0;
    REFUSED(944, kvcap_seal(state, &terms, &options, &output, NULL, &written, NULL, &error));
    CHECK(written == needed);
    output.capacity = needed;
    kvcap_facts *facts = NULL;
    DONE(kvcap_seal(state, &terms, &options, &output, NULL, &written, &facts, &error));
    CHECK(written == needed && kvcap_facts_number(facts, "length", 0) == needed);
    CHECK(kvcap_facts_count(facts, "positions") == 2);
    kvcap_facts_free(facts);
    *length = (size_t)needed;
    return capsule;
}

typedef struct kept {
    uint8_t *data;
    size_t capacity;
    size_t end;
    int refusing;
} kept;

static int32_t keep(void *context, uint64_t offset, const uint8_t *from, size_t length) {
    kept *to = (kept *)context;
    if (to->refusing || offset > to->capacity || length > to->capacity - offset) return 7;
    memcpy(to->data + offset, from, length);
    if (offset + length > to->end) to->end = (size_t)offset + length;
    return 0;
}

static void comes_back(const place *at, const char *name) {
    char *path = joined(at->fixtures, name);
    size_t length = 0, capsule_length = 0;
    uint8_t *state = content(path, &length);
    lent_bytes lent = {state, length};
    kvcap_source states[] = {memory(state, length), reader(&lent), file(path)};
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = at->profile;
    for (size_t from = 0; from < 3; from++) {
        uint8_t *capsule = sealed(at, &states[from], &capsule_length);
        lent_bytes of_capsule = {capsule, capsule_length};
        kvcap_source sources[] = {memory(capsule, capsule_length), reader(&of_capsule)};
        for (size_t way = 0; way < 2; way++) {
            kvcap_opened *opened = NULL;
            DONE(kvcap_open(&sources[way], &terms, NULL, 0, &opened, &error));
            uint64_t whole = 0, written = 0;
            DONE(kvcap_opened_length(opened, &whole, &error));
            CHECK(whole == length);
            uint8_t *again = (uint8_t *)malloc(length);
            CHECK(again != NULL);
            kvcap_output output;
            memset(&output, 0, sizeof output);
            output.data = again;
            output.capacity = length - 1;
            REFUSED(944, kvcap_opened_write(opened, NULL, &output, NULL, &written, &error));
            CHECK(written == length);
            output.capacity = length;
            DONE(kvcap_opened_write(opened, NULL, &output, NULL, &written, &error));
            CHECK(memcmp(again, state, length) == 0);
            /* by a function, which may refuse */
            memset(again, 0, length);
            kept to = {again, length, 0, 0};
            memset(&output, 0, sizeof output);
            output.write = keep;
            output.context = &to;
            DONE(kvcap_opened_write(opened, NULL, &output, NULL, &written, &error));
            CHECK(to.end == length && memcmp(again, state, length) == 0);
            to.refusing = 1;
            REFUSED(940, kvcap_opened_write(opened, NULL, &output, NULL, &written, &error));
            free(again);
            kvcap_opened_free(opened);
        }
        free(capsule);
    }
    free(state);
    free(path);
}

static void parts(const place *at, const kvcap_source *capsule) {
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = at->profile;
    kvcap_opened *opened = NULL;
    DONE(kvcap_open(capsule, &terms, NULL, 0, &opened, &error));
    kvcap_part layer = {0, 1, 0, 0}, rows = {0, 1, 0, 2}, none = {0, 4000, 0, 0};
    uint64_t whole = 0, of_layer = 0, of_rows = 0;
    DONE(kvcap_opened_length(opened, &whole, &error));
    DONE(kvcap_opened_write(opened, &layer, NULL, NULL, &of_layer, &error));
    DONE(kvcap_opened_write(opened, &rows, NULL, NULL, &of_rows, &error));
    CHECK(whole > of_layer && of_layer > of_rows && of_rows > 0);
    REFUSED(810, kvcap_opened_write(opened, &none, NULL, NULL, NULL, &error));
    char *path = joined(at->folder, "layer.safetensors");
    kvcap_output output;
    memset(&output, 0, sizeof output);
    output.path = path;
    DONE(kvcap_opened_write(opened, &layer, &output, NULL, NULL, &error));
    REFUSED(941, kvcap_opened_write(opened, &layer, &output, NULL, NULL, &error));
    output.replace = true;
    DONE(kvcap_opened_write(opened, &layer, &output, NULL, NULL, &error));
    size_t length = 0;
    free(content(path, &length));
    CHECK(length == of_layer);
    free(path);
    kvcap_facts *facts = NULL;
    DONE(kvcap_opened_facts(opened, &facts, &error));
    CHECK(strcmp(kvcap_facts_text(facts, "issuer", 0), "prefill.example.com") == 0);
    kvcap_facts_free(facts);
    kvcap_opened_free(opened);
}

static void verdicts(const place *at, uint8_t *capsule, size_t length) {
    kvcap_source source = memory(capsule, length);
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = at->profile;
    kvcap_facts *facts = NULL, *claims = NULL, *identity = NULL;
    DONE(kvcap_verify(&source, &terms, false, NULL, &facts, &error));
    DONE(kvcap_inspect(&source, &claims, &error));
    DONE(kvcap_model_id(model, NULL, 0, &identity, &error));
    CHECK(strcmp(kvcap_facts_text(facts, "id", 0), kvcap_facts_text(claims, "id", 0)) == 0);
    CHECK(strcmp(kvcap_facts_text(facts, "model_id", 0), kvcap_facts_text(identity, "id", 0)) == 0);
    CHECK(kvcap_facts_number(claims, "length", 0) == length);
    CHECK(kvcap_facts_count(facts, "body") == 2 && kvcap_facts_count(facts, "unaccepted") > 0);
    CHECK(kvcap_facts_text(facts, "tenant", 0) == NULL && kvcap_facts_count(facts, "no such") == 0);
    /* each exception is accepted by name */
    const char *accepted[16];
    size_t count = kvcap_facts_count(facts, "unaccepted");
    CHECK(count <= 16);
    for (size_t one = 0; one < count; one++) accepted[one] = kvcap_facts_text(facts, "unaccepted", one);
    terms.accept_unchecked = accepted;
    terms.accept_unchecked_count = count;
    kvcap_facts *quiet = NULL;
    DONE(kvcap_verify(&source, &terms, false, NULL, &quiet, &error));
    CHECK(kvcap_facts_count(quiet, "unaccepted") == 0);
    kvcap_facts_free(quiet);
    DONE(kvcap_verify(&source, &terms, true, NULL, &quiet, &error));
    CHECK(kvcap_facts_count(quiet, "body") == 0);
    kvcap_facts_free(quiet);
    terms.accept_unchecked_count = 0;

    /* as its bytes come */
    kvcap_verifying *verifying = NULL;
    DONE(kvcap_verifying_new(&terms, &verifying, &error));
    int judged = 0;
    for (size_t at_byte = 0; at_byte < length; at_byte += 4096) {
        size_t more = length - at_byte < 4096 ? length - at_byte : 4096;
        kvcap_facts *said = NULL;
        DONE(kvcap_verifying_feed(verifying, capsule + at_byte, more, &said, &error));
        judged |= said != NULL;
        kvcap_facts_free(said);
    }
    CHECK(judged);
    DONE(kvcap_verifying_finish(verifying, &quiet, &error));
    CHECK(strcmp(kvcap_facts_text(quiet, "id", 0), kvcap_facts_text(facts, "id", 0)) == 0);
    kvcap_facts_free(quiet);
    REFUSED(944, kvcap_verifying_finish(verifying, NULL, &error));
    kvcap_verifying_free(verifying);

    /* a refusal carries its code, and what a stranger may hear */
    capsule[length - 1] ^= 1;
    kvcap_error *refused = NULL;
    CHECK(kvcap_verify(&source, &terms, false, NULL, NULL, &refused) == 805);
    CHECK(strcmp(kvcap_error_name(refused), "body.leaf") == 0);
    CHECK(strncmp(kvcap_error_text(refused), "KVC-805 ", 8) == 0);
    kvcap_error_free(refused);
    capsule[length - 1] ^= 1;
    kvcap_profile *elsewhere = profile_with(at->folder, "audience", "elsewhere");
    terms.profile = elsewhere;
    CHECK(kvcap_verify(&source, &terms, false, NULL, NULL, &refused) == 405);
    CHECK(strcmp(kvcap_error_found(refused), "local") == 0);
    CHECK(strcmp(kvcap_error_expected(refused), "elsewhere") == 0);
    CHECK(strstr(kvcap_error_public(refused), "local") == NULL);
    kvcap_error_free(refused);
    kvcap_profile_free(elsewhere);
    kvcap_facts_free(identity);
    kvcap_facts_free(claims);
    kvcap_facts_free(facts);
}

static bool stop(void *context, uint64_t done, uint64_t all) {
    CHECK(done <= all);
    ++*(int *)context;
    return false;
}

static bool go_on(void *context, uint64_t done, uint64_t all) {
    *(int *)context = done == all;
    return true;
}

static void progress(const place *at, const kvcap_source *state) {
    int count = 0;
    kvcap_progress stopping = {stop, &count}, going = {go_on, &count};
    char *path = joined(at->folder, "stopped.kvcap");
    kvcap_output output;
    memset(&output, 0, sizeof output);
    output.path = path;
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = at->profile;
    kvcap_seal_options options;
    memset(&options, 0, sizeof options);
    options.danger_no_prefix = true;
    REFUSED(KVCAP_ENDED, kvcap_seal(state, &terms, &options, &output, &stopping, NULL, NULL, &error));
    CHECK(count > 0 && fopen(path, "rb") == NULL);
    DONE(kvcap_seal(state, &terms, &options, &output, &going, NULL, NULL, &error));
    CHECK(count == 1);
    free(path);
}

static void prompts(const place *at, const kvcap_source *state) {
    size_t length = 0;
    uint8_t *any = sealed(at, state, &length);
    kvcap_source source = memory(any, length);
    kvcap_facts *claims = NULL;
    DONE(kvcap_inspect(&source, &claims, &error));
    uint64_t positions = kvcap_facts_number(claims, "positions", 1);
    kvcap_facts_free(claims);
    free(any);
    uint32_t ids[4096], again[4096];
    CHECK(positions > 0 && positions <= 4096);
    for (uint64_t id = 0; id < positions; id++) ids[id] = (uint32_t)id + 5;
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = at->profile;
    kvcap_seal_options options;
    memset(&options, 0, sizeof options);
    options.tokens = ids;
    options.token_count = (size_t)positions;
    options.history = (const uint8_t *)"hello";
    options.history_length = 5;
    char *path = joined(at->folder, "bound.kvcap");
    kvcap_output output;
    memset(&output, 0, sizeof output);
    output.path = path;
    DONE(kvcap_seal(state, &terms, &options, &output, NULL, NULL, NULL, &error));
    source = file(path);
    kvcap_opened *opened = NULL;
    DONE(kvcap_open(&source, &terms, ids, (size_t)positions, &opened, &error));
    uint64_t count = 0;
    DONE(kvcap_opened_tokens(opened, again, 4096, &count, &error));
    CHECK(count == positions && memcmp(ids, again, (size_t)positions * sizeof *ids) == 0);
    kvcap_opened_free(opened);
    ids[0] = 1;
    REFUSED(605, kvcap_open(&source, &terms, ids, (size_t)positions, &opened, &error));
    options.danger_no_prefix = true;
    REFUSED(944, kvcap_seal(state, &terms, &options, NULL, NULL, NULL, NULL, &error));
    free(path);
}

static void sessions(const place *at, const kvcap_source *state) {
    size_t length = 0, whole = 0;
    uint8_t *any = sealed(at, state, &length), *plain = content(state->path, &whole);
    kvcap_source source = memory(any, length);
    kvcap_facts *facts = NULL;
    DONE(kvcap_inspect(&source, &facts, &error));
    uint64_t positions = kvcap_facts_number(facts, "positions", 1);
    kvcap_facts_free(facts);
    free(any);
    uint32_t ids[4096];
    CHECK(positions > 0 && positions <= 4096);
    for (uint64_t id = 0; id < positions; id++) ids[id] = (uint32_t)id + 5;
    char *folder = joined(at->folder, "sessions");
    kvcap_sessions *all = NULL;
    kvcap_session *session = NULL, *other = NULL;
    DONE(kvcap_sessions_new(at->profile, folder, &all, &error));
    DONE(kvcap_session_load_or_create(all, "chat", "ana", &session, &error));
    DONE(kvcap_session_load_or_create(all, "chat", "bob", &other, &error));
    uint64_t seq = 0;
    DONE(kvcap_session_append(session, "user", "a question", &seq, &error));
    CHECK(seq == 1);
    REFUSED(944, kvcap_session_append(session, "joke", "no", NULL, &error));
    kvcap_seal_options options;
    memset(&options, 0, sizeof options);
    options.tokens = ids;
    options.token_count = (size_t)positions;
    DONE(kvcap_session_save(session, state, &options, NULL, &facts, &error));
    CHECK(kvcap_facts_number(facts, "version", 0) == 1 && kvcap_facts_number(facts, "token_count", 0) == positions);
    CHECK(kvcap_facts_count(facts, "capsule") == 1);
    kvcap_facts_free(facts);
    DONE(kvcap_session_append(session, "assistant", "an answer", NULL, &error));
    DONE(kvcap_session_save(session, NULL, NULL, NULL, NULL, &error));
    DONE(kvcap_session_facts(session, &facts, &error));
    CHECK(strcmp(kvcap_facts_text(facts, "id", 0), "chat") == 0 && kvcap_facts_count(facts, "versions") == 2);
    kvcap_facts_free(facts);
    DONE(kvcap_session_events(session, &facts, &error));
    CHECK(kvcap_facts_count(facts, "text") == 2 && strcmp(kvcap_facts_text(facts, "kind", 1), "assistant") == 0);
    kvcap_facts_free(facts);

    /* another user sees none of it */
    kvcap_resumed *resumed = NULL;
    DONE(kvcap_session_resume(other, ids, (size_t)positions, 0, &resumed, &error));
    DONE(kvcap_resumed_facts(resumed, &facts, &error));
    CHECK(strcmp(kvcap_facts_text(facts, "rung", 0), "fresh") == 0);
    uint64_t bytes = 1;
    CHECK(kvcap_resumed_state(resumed, &bytes) == NULL && bytes == 0);
    kvcap_facts_free(facts);
    kvcap_resumed_free(resumed);
    DONE(kvcap_sessions_list(all, "ana", &facts, &error));
    CHECK(kvcap_facts_count(facts, "sessions") == 1);
    kvcap_facts_free(facts);
    DONE(kvcap_sessions_list(all, NULL, &facts, &error));
    CHECK(kvcap_facts_count(facts, "sessions") == 0);
    kvcap_facts_free(facts);

    /* its handle is not needed any more */
    kvcap_sessions_free(all);
    DONE(kvcap_session_resume(session, ids, (size_t)positions, 0, &resumed, &error));
    const uint8_t *state_again = kvcap_resumed_state(resumed, &bytes);
    CHECK(bytes == whole && memcmp(state_again, plain, whole) == 0);
    DONE(kvcap_resumed_facts(resumed, &facts, &error));
    CHECK(strcmp(kvcap_facts_text(facts, "rung", 0), "exact") == 0 && kvcap_facts_count(facts, "sentence") == 1);
    CHECK(kvcap_facts_number(facts, "token_count", 0) == positions && kvcap_facts_count(facts, "code") == 0);
    kvcap_facts_free(facts);
    kvcap_resumed_free(resumed);
    DONE(kvcap_session_revert_to_turn(session, 0, &facts, &error));
    CHECK(kvcap_facts_number(facts, "version", 0) == 3 && kvcap_facts_number(facts, "token_count", 0) == 0);
    kvcap_facts_free(facts);
    REFUSED(955, kvcap_session_revert_to_turn(session, 9, NULL, &error));
    kvcap_session_free(other);
    kvcap_session_free(session);
    free(folder);
    free(plain);
}

static void registries(const place *at, const kvcap_source *capsule) {
    char *root = joined(at->folder, "root.key"), *path = joined(at->folder, "keys.kvreg");
    char *public_root = joined(at->folder, "root.key.pub"), *key = joined(at->folder, "issuer.key.pub");
    char *revoked = joined(at->folder, "revoked.kvcap");
    kvcap_facts *facts = NULL;
    DONE(kvcap_new_root_key(root, "a passphrase", &facts, &error));
    CHECK(kvcap_facts_count(facts, "public") == 1);
    kvcap_facts_free(facts);
    REFUSED(946, kvcap_registry_create(path, root, NULL, 3600, NULL, &error));
    DONE(kvcap_registry_create(path, root, "a passphrase", 3600, &facts, &error));
    CHECK(kvcap_facts_number(facts, "version", 0) == 1 && kvcap_facts_count(facts, "keys") == 0);
    kvcap_facts_free(facts);
    REFUSED(941, kvcap_registry_create(path, root, "a passphrase", 3600, NULL, &error));

    kvcap_setting settings[] = {{"registry", path}, {"registry_root", public_root}};
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    kvcap_profile *profile = NULL;
    DONE(kvcap_profile_new(settings, 2, NULL, &profile, &error));
    terms.profile = profile;
    REFUSED(301, kvcap_verify(capsule, &terms, false, NULL, NULL, &error));
    kvcap_change add = {"add", key, NULL}, revoke = {"revoke", revoked, NULL}, joke = {"joke", key, NULL};
    kvcap_change both[] = {{"revoke", "00000000000000000000000000000001", NULL}, {"add", key, NULL}};
    uint64_t longer = 7200;
    DONE(kvcap_registry_change(path, root, "a passphrase", &add, 1, &longer, &facts, &error));
    CHECK(kvcap_facts_number(facts, "version", 0) == 2 && kvcap_facts_count(facts, "keys") == 1);
    uint64_t lives = kvcap_facts_number(facts, "expires", 0) - kvcap_facts_number(facts, "issued_at", 0);
    CHECK(lives == longer);
    kvcap_facts_free(facts);
    DONE(kvcap_verify(capsule, &terms, false, NULL, NULL, &error));

    /* all of the changes or none */
    kvcap_error *error = NULL;
    CHECK(kvcap_registry_change(path, root, "a passphrase", both, 2, NULL, NULL, &error) != KVCAP_OK);
    kvcap_error_free(error);
    REFUSED(944, kvcap_registry_change(path, root, "a passphrase", &joke, 1, NULL, NULL, &error));
    FILE *file = fopen(revoked, "wb");
    CHECK(file != NULL && fwrite(capsule->data, 1, (size_t)capsule->length, file) == capsule->length);
    fclose(file);
    DONE(kvcap_registry_change(path, root, "a passphrase", &revoke, 1, NULL, &facts, &error));
    CHECK(kvcap_facts_number(facts, "version", 0) == 3 && kvcap_facts_count(facts, "revoked") == 1);
    kvcap_facts_free(facts);
    REFUSED(409, kvcap_verify(capsule, &terms, false, NULL, NULL, &error));
    kvcap_profile_free(profile);
    free(root);
    free(path);
    free(public_root);
    free(key);
    free(revoked);
}

static void misuse(const place *at) {
    /* nothing that is NULL ends the process */
    REFUSED(944, kvcap_verify(NULL, NULL, false, NULL, NULL, &error));
    REFUSED(944, kvcap_profile_new(NULL, 0, NULL, NULL, &error));
    REFUSED(944, kvcap_verifying_feed(NULL, NULL, 0, NULL, &error));
    REFUSED(944, kvcap_opened_length(NULL, NULL, &error));
    REFUSED(944, kvcap_read_public_key(NULL, NULL, &error));
    CHECK(kvcap_verify(NULL, NULL, false, NULL, NULL, NULL) == 944);
    kvcap_profile_free(NULL);
    kvcap_facts_free(NULL);
    kvcap_error_free(NULL);
    kvcap_opened_free(NULL);
    kvcap_verifying_free(NULL);
    REFUSED(944, kvcap_session_append(NULL, "user", "", NULL, &error));
    REFUSED(944, kvcap_sessions_new(NULL, NULL, NULL, &error));
    REFUSED(944, kvcap_registry_change(NULL, NULL, NULL, NULL, 0, NULL, NULL, &error));
    kvcap_session_free(NULL);
    kvcap_sessions_free(NULL);
    kvcap_resumed_free(NULL);
    CHECK(kvcap_facts_count(NULL, "id") == 0 && kvcap_error_text(NULL) == NULL);
    kvcap_source nothing;
    memset(&nothing, 0, sizeof nothing);
    REFUSED(944, kvcap_inspect(&nothing, NULL, &error));
    kvcap_source missing = file("/no/such/file");
    REFUSED(940, kvcap_inspect(&missing, NULL, &error));
    kvcap_setting unknown = {"no_such_setting", "1"}, twice[] = {{"ttl", "1h"}, {"ttl", "2h"}};
    kvcap_setting wrong = {"sign_key", "\xff\xfe"};
    kvcap_profile *profile = NULL;
    REFUSED(944, kvcap_profile_new(&unknown, 1, NULL, &profile, &error));
    REFUSED(944, kvcap_profile_new(twice, 2, NULL, &profile, &error));
    REFUSED(944, kvcap_profile_new(&wrong, 1, NULL, &profile, &error));
    kvcap_facts *facts = NULL;
    DONE(kvcap_profile_facts(at->profile, &facts, &error));
    CHECK(strcmp(kvcap_facts_text(facts, "ttl", 0), "1h") == 0);
    kvcap_facts_free(facts);
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    CHECK(strchr(kvcap_version(), '.') != NULL);
    place at = {arguments[1], arguments[2], NULL};
    sign_key = joined(at.folder, "issuer.key");
    wrap_key = joined(at.folder, "reader.key");
    model = joined(at.fixtures, "model");
    keys(&at);
    at.profile = profile_with(at.folder, NULL, NULL);
    const char *states[] = {"hf_f16.safetensors", "mlx031_q8.safetensors", "llama_ggsq3_f16_fa.bin",
                            "llama_ggsq3_q4_0.bin", "llama_ggsn10_q8_0.bin"};
    for (size_t one = 0; one < sizeof states / sizeof *states; one++) comes_back(&at, states[one]);
    char *path = joined(at.fixtures, states[0]);
    kvcap_source state = file(path);
    size_t length = 0;
    uint8_t *capsule = sealed(&at, &state, &length);
    kvcap_source source = memory(capsule, length);
    parts(&at, &source);
    verdicts(&at, capsule, length);
    progress(&at, &state);
    prompts(&at, &state);
    sessions(&at, &state);
    registries(&at, &source);
    misuse(&at);
    /* an encoding that is not exact: another, smaller capsule that opens */
    kvcap_profile *exact = at.profile;
    at.profile = profile_with(at.folder, "encoding", "q8");
    size_t smaller = 0;
    free(sealed(&at, &state, &smaller));
    CHECK(smaller < length);
    kvcap_profile_free(at.profile);
    kvcap_profile_free(exact);
    free(capsule);
    free(path);
    free(sign_key);
    free(wrap_key);
    free(model);
    puts("every call: done");
    return 0;
}
