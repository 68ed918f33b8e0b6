/* A sequence of llama.cpp, sealed where it lies and restored in another context: `llama MODEL.gguf PROFILE-FOLDER`.
 *
 * The folder gets keys. A prompt is evaluated and its state sealed to chat.kvcap; a second context, which has evaluated
 * nothing, opens it and must then say the same next token as the first. */
#include <ggml-backend.h>
#include <kvcap.h>
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void done(int32_t status, kvcap_error *error) {
    if (status == KVCAP_OK) return;
    fprintf(stderr, "kvcap: %s\n", error ? kvcap_error_text(error) : "failed");
    exit(1);
}

static void needed(int is_so, const char *what) {
    if (is_so) return;
    fprintf(stderr, "llama: %s\n", what);
    exit(1);
}

static llama_token most_likely(struct llama_context *context, const struct llama_vocab *vocab) {
    const float *logits = llama_get_logits_ith(context, -1);
    llama_token best = 0;
    for (llama_token one = 1; one < llama_vocab_n_tokens(vocab); one++)
        if (logits[one] > logits[best]) best = one;
    return best;
}

static void decode(struct llama_context *context, llama_token *tokens, int32_t count) {
    needed(llama_decode(context, llama_batch_get_one(tokens, count)) == 0, "the tokens were not evaluated");
}

int main(int count, char **arguments) {
    needed(count == 3, "usage: llama MODEL.gguf FOLDER");
    const char *folder = arguments[2];
    char sign_key[4096], trust[4096], wrap_key[4096], capsule[4096];
    snprintf(sign_key, sizeof sign_key, "%s/issuer.key", folder);
    snprintf(trust, sizeof trust, "%s/issuer.key.pub", folder);
    snprintf(wrap_key, sizeof wrap_key, "%s/reader.key", folder);
    snprintf(capsule, sizeof capsule, "%s/chat.kvcap", folder);

    /* once: keys, and what both sides set */
    kvcap_error *error = NULL;
    done(kvcap_new_signing_key(sign_key, "me.example.com", NULL, NULL, &error), error);
    done(kvcap_new_wrapping_key(wrap_key, NULL, NULL, NULL, &error), error);
    kvcap_setting settings[] = {{"sign_key", sign_key}, {"wrap_key", wrap_key}, {"trust", trust},
                                {"model", arguments[1]}, {"ttl", "24h"}};
    kvcap_profile *profile = NULL;
    done(kvcap_profile_new(settings, 5, NULL, &profile, &error), error);
    kvcap_terms terms = {0};
    terms.profile = profile;

    ggml_backend_load_all();
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(arguments[1], llama_model_default_params());
    needed(model != NULL, "the model was not loaded");
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    struct llama_context *first = llama_init_from_model(model, llama_context_default_params());
    needed(first != NULL, "there is no context");
    llama_token tokens[256];
    int32_t length = 0;
    const llama_token words = llama_vocab_n_tokens(vocab);
    for (; length < 64; length++) tokens[length] = (length * 7919 + 13) % words; /* any prompt */
    decode(first, tokens, length);

    /* sealed where it lies: no file of the plain state */
    size_t size = llama_state_seq_get_size_ext(first, 0, 0);
    uint8_t *state = malloc(size);
    needed(state != NULL, "there is no memory");
    size_t written = llama_state_seq_get_data_ext(first, state, size, 0, 0);
    needed(written > 0 && written <= size, "there is no state");
    kvcap_source source = {0};
    source.data = state;
    source.length = written;
    kvcap_seal_options options = {0};
    options.tokens = (const uint32_t *)tokens;
    options.token_count = (size_t)length;
    options.runtime = "llama-cpp";
    kvcap_output output = {0};
    output.path = capsule;
    uint64_t sealed = 0;
    done(kvcap_seal(&source, &terms, &options, &output, NULL, &sealed, NULL, &error), error);
    printf("sealed %zu bytes of state in %llu\n", written, (unsigned long long)sealed);
    memset(state, 0, size);

    /* later, elsewhere: verified and opened into memory, and only then given to llama.cpp */
    struct llama_context *second = llama_init_from_model(model, llama_context_default_params());
    needed(second != NULL, "there is no context");
    kvcap_source from = {0};
    from.path = capsule;
    kvcap_opened *opened = NULL;
    done(kvcap_open(&from, &terms, (const uint32_t *)tokens, (size_t)length, &opened, &error), error);
    kvcap_output into = {0};
    into.data = state;
    into.capacity = size;
    uint64_t restored = 0;
    done(kvcap_opened_write(opened, NULL, &into, NULL, &restored, &error), error);
    kvcap_opened_free(opened);
    needed(restored == written, "another length came back");
    needed(llama_state_seq_set_data_ext(second, state, restored, 0, 0) > 0, "the state was not taken");

    llama_token next = most_likely(first, vocab), again;
    decode(first, &next, 1);
    decode(second, &next, 1);
    next = most_likely(first, vocab);
    again = most_likely(second, vocab);
    printf("the next token: %d and %d\n", next, again);
    needed(next == again, "the restored context goes on in another way");
    free(state);
    llama_free(second);
    llama_free(first);
    llama_model_free(model);
    kvcap_profile_free(profile);
    return 0;
}
