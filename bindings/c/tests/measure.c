/* Seals and opens a state in memory: `measure STATE MODEL FOLDER`, as bindings/calls/measure.rs. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <time.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

int main(int count, char **arguments) {
    CHECK(count == 4);
    char *sign = joined(arguments[3], "issuer.key"), *trust = joined(arguments[3], "issuer.key.pub");
    char *wrap = joined(arguments[3], "reader.key");
    kvcap_setting settings[] = {
        {"sign_key", sign}, {"trust", trust}, {"wrap_key", wrap}, {"model", arguments[2]}, {"ttl", "1h"}};
    kvcap_profile *profile = NULL;
    DONE(kvcap_profile_new(settings, 5, NULL, &profile, &error));
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = profile;
    kvcap_seal_options options;
    memset(&options, 0, sizeof options);
    options.danger_no_prefix = true;
    size_t length = 0;
    uint8_t *state = content(arguments[1], &length);
    kvcap_source source = memory(state, length);
    size_t capacity = length + (length >> 4) + (1 << 20);
    double took[2] = {0, 0};
    uint8_t *capsule = NULL;
    uint64_t sealed = 0;
    for (int round = 0; round < 2; round++) {
        free(capsule); /* what the call before has made is given back before this one, as in every language */
        double start = now();
        capsule = malloc(capacity);
        CHECK(capsule != NULL);
        kvcap_output output;
        memset(&output, 0, sizeof output);
        output.data = capsule;
        output.capacity = capacity;
        DONE(kvcap_seal(&source, &terms, &options, &output, NULL, &sealed, NULL, &error));
        took[0] = now() - start;
    }
    for (int round = 0; round < 2; round++) {
        kvcap_source from = memory(capsule, (size_t)sealed);
        double start = now();
        kvcap_opened *opened = NULL;
        DONE(kvcap_open(&from, &terms, NULL, 0, &opened, &error));
        uint64_t whole = 0;
        DONE(kvcap_opened_length(opened, &whole, &error));
        uint8_t *again = malloc((size_t)whole);
        CHECK(again != NULL);
        kvcap_output output;
        memset(&output, 0, sizeof output);
        output.data = again;
        output.capacity = whole;
        DONE(kvcap_opened_write(opened, NULL, &output, NULL, NULL, &error));
        took[1] = now() - start;
        kvcap_opened_free(opened);
        CHECK(whole == length && memcmp(again, state, length) == 0);
        free(again);
    }
    printf("%.4f %.4f\n", took[0], took[1]);
    kvcap_profile_free(profile);
    return 0;
}
