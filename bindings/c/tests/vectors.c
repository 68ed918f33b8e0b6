/* The test vectors through the library: `vectors LIST`, as kvcap-calls' vector-settings writes it. Each from memory, by a
 * function, from its file, and as its bytes come. */
#include "check.h"

#define MOST 64

static size_t split(char *text, char by, char **parts, size_t most) {
    size_t count = 0;
    if (*text == '\0') return 0;
    for (;;) {
        CHECK(count < most);
        parts[count++] = text;
        char *end = strchr(text, by);
        if (end == NULL) return count;
        *end = '\0';
        text = end + 1;
    }
}

/* A setting's value has its line break written as two characters. */
static void unescape(char *text) {
    char *mark = strstr(text, "\\n");
    if (mark == NULL) return;
    *mark = '\n';
    memmove(mark + 1, mark + 2, strlen(mark + 2) + 1);
}

static int32_t pushed(const kvcap_terms *terms, const uint8_t *capsule, size_t length, size_t size) {
    kvcap_verifying *verifying = NULL;
    int32_t status = kvcap_verifying_new(terms, &verifying, NULL);
    for (size_t at = 0; status == KVCAP_OK && at < length; at += size) {
        size_t more = length - at < size ? length - at : size;
        status = kvcap_verifying_feed(verifying, capsule + at, more, NULL, NULL);
    }
    if (status == KVCAP_OK) status = kvcap_verifying_finish(verifying, NULL, NULL);
    kvcap_verifying_free(verifying);
    return status;
}

static int wrong;

static void judged(const char *name, const char *way, int32_t expected, int32_t status) {
    if (status == expected) return;
    fprintf(stderr, "%s, %s: %d, not %d\n", name, way, status, expected);
    wrong++;
}

static void vector(char *line) {
    char *fields[MOST], *accepted[MOST], *chain[MOST], *session[3] = {0};
    size_t count = split(line, '\t', fields, MOST);
    CHECK(count > 7);
    const char *name = fields[0];
    int32_t expected = atoi(fields[2]);
    kvcap_setting settings[MOST];
    for (size_t at = 7; at < count; at++) {
        char *value = strchr(fields[at], '=');
        CHECK(value != NULL);
        *value++ = '\0';
        unescape(value);
        settings[at - 7].name = fields[at];
        settings[at - 7].value = value;
    }
    kvcap_profile *profile = NULL;
    DONE(kvcap_profile_new(settings, count - 7, NULL, &profile, &error));
    kvcap_terms terms;
    memset(&terms, 0, sizeof terms);
    terms.profile = profile;
    terms.accept_unchecked_count = split(fields[4], ',', accepted, MOST);
    terms.accept_unchecked = (const char *const *)accepted;
    terms.chain_count = split(fields[5], ',', chain, MOST);
    terms.chain = (const char *const *)chain;
    uint64_t version = 0, cursor = 0;
    if (split(fields[6], ',', session, 3) == 3) {
        terms.session = session[0];
        version = strtoull(session[1], NULL, 10);
        cursor = strtoull(session[2], NULL, 10);
        terms.session_version = *session[1] ? &version : NULL;
        terms.replay_cursor = *session[2] ? &cursor : NULL;
    }
    size_t length = 0;
    uint8_t *capsule = content(fields[1], &length);
    lent_bytes lent = {capsule, length};
    kvcap_source from_memory = memory(capsule, length), by_function = reader(&lent), from_file = file(fields[1]);
    judged(name, "memory", expected, kvcap_verify(&from_memory, &terms, false, NULL, NULL, NULL));
    judged(name, "function", expected, kvcap_verify(&by_function, &terms, false, NULL, NULL, NULL));
    judged(name, "file", expected, kvcap_verify(&from_file, &terms, false, NULL, NULL, NULL));
    if (fields[3][0] == '1' && length < 1 << 20) {
        judged(name, "17 bytes at a time", expected, pushed(&terms, capsule, length, 17));
        judged(name, "a mebibyte at a time", expected, pushed(&terms, capsule, length, 1 << 20));
    }
    free(capsule);
    kvcap_profile_free(profile);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    size_t length = 0;
    char *list = (char *)content(arguments[1], &length), *line = list;
    list[length] = '\0';
    int vectors = 0;
    while (*line != '\0') {
        char *end = strchr(line, '\n');
        CHECK(end != NULL);
        *end = '\0';
        vector(line);
        vectors++;
        line = end + 1;
    }
    free(list);
    CHECK(vectors > 400);
    printf("%d vectors, %d calls of them wrong\n", vectors, wrong);
    return wrong != 0;
}
