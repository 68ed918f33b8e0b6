/* The README's lines, as they stand there: `readme FIXTURES`. `save.inc` and `load.inc` are its two blocks, made by run. */
#include <kvcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(kvcap_error *error) {
    fprintf(stderr, "%s\n", error ? kvcap_error_text(error) : "failed");
    kvcap_error_free(error);
    return 1;
}

static int lines(const uint8_t *bytes, uint64_t length, uint8_t *room, uint64_t capacity) {
#include "save.inc"
    {
#include "load.inc"
    }
    kvcap_profile_free(profile);
    return length == capacity && memcmp(bytes, room, (size_t)length) == 0 ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    char model[4096], path[4096];
    snprintf(model, sizeof model, "%s/model", arguments[1]);
    snprintf(path, sizeof path, "%s/hf_f16.safetensors", arguments[1]);
    kvcap_setting settings[] = {{"model", model}, {"ttl", "24h"}};
    kvcap_profile *made = NULL;
    kvcap_error *error = NULL;
    if (kvcap_profile_create("default", NULL, settings, 2, NULL, &made, &error)) return failed(error);
    kvcap_profile_free(made);
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return 2;
    long length = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc((size_t)length), *room = malloc((size_t)length);
    if (bytes == NULL || room == NULL || fread(bytes, 1, (size_t)length, file) != (size_t)length) return 2;
    fclose(file);
    int said = lines(bytes, (uint64_t)length, room, (uint64_t)length);
    free(bytes);
    free(room);
    return said;
}
