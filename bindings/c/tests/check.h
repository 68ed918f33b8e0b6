/* A test fails by its line; what a call said of itself is printed. */
#ifndef CHECK_H
#define CHECK_H

#include <kvcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                              \
    do {                                                                         \
        if (!(what)) {                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);   \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

/* A call that must do what it is asked for. */
#define DONE(call)                                                               \
    do {                                                                         \
        kvcap_error *error = NULL;                                               \
        if ((call) != KVCAP_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, kvcap_error_text(error)); \
            exit(1);                                                             \
        }                                                                        \
        CHECK(error == NULL);                                                    \
    } while (0)

/* A call that must be refused with a code. */
#define REFUSED(number, call)                                                    \
    do {                                                                         \
        kvcap_error *error = NULL;                                               \
        int32_t status = (call);                                                 \
        if (status != (number)) {                                                \
            fprintf(stderr, "%s:%d: %d, not %d: %s\n", __FILE__, __LINE__, status, (number), \
                    error ? kvcap_error_text(error) : "accepted");               \
            exit(1);                                                             \
        }                                                                        \
        CHECK(kvcap_error_code(error) == (number));                              \
        kvcap_error_free(error);                                                 \
    } while (0)

static inline char *joined(const char *folder, const char *name) {
    size_t length = strlen(folder) + strlen(name) + 2;
    char *path = (char *)malloc(length);
    CHECK(path != NULL);
    snprintf(path, length, "%s/%s", folder, name);
    return path;
}

static inline uint8_t *content(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    long end = ftell(file);
    CHECK(end >= 0 && fseek(file, 0, SEEK_SET) == 0);
    *length = (size_t)end;
    uint8_t *bytes = (uint8_t *)malloc(*length + 1);
    CHECK(bytes != NULL && fread(bytes, 1, *length, file) == *length);
    fclose(file);
    return bytes;
}

static inline kvcap_source memory(const uint8_t *data, size_t length) {
    kvcap_source source;
    memset(&source, 0, sizeof source);
    source.data = data;
    source.length = length;
    return source;
}

static inline kvcap_source file(const char *path) {
    kvcap_source source;
    memset(&source, 0, sizeof source);
    source.path = path;
    return source;
}

/* Bytes behind a function, as a caller's own reader has them. */
typedef struct lent_bytes {
    const uint8_t *data;
    size_t length;
} lent_bytes;

static inline int32_t read_lent(void *context, uint64_t offset, uint8_t *to, size_t length) {
    const lent_bytes *bytes = (const lent_bytes *)context;
    if (offset > bytes->length || length > bytes->length - offset) return 1;
    memcpy(to, bytes->data + offset, length);
    return 0;
}

static inline kvcap_source reader(lent_bytes *bytes) {
    kvcap_source source;
    memset(&source, 0, sizeof source);
    source.read = read_lent;
    source.context = bytes;
    source.length = bytes->length;
    return source;
}

#endif
