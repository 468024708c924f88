/* A PACS inside a program: keeps a DICOM file, finds it and reads it back.
 * Run with: make -C examples/c && examples/c/embed FILE DIRECTORY */
#include <stdio.h>
#include <stdlib.h>

#include <pacs.h>

static pacs_context *context;

/* Ends the program when a call failed. False when there is no more to iterate over or to read. */
static int check(pacs_status status, const char *what)
{
    pacs_error error = {.struct_size = sizeof error};
    if (status == PACS_OK || status == PACS_END)
        return status == PACS_OK;
    pacs_last_error(context, &error);
    /* A call without a valid handle leaves an earlier failure there. */
    fprintf(stderr, "%s: %s: %s\n", what, pacs_status_text(status), error.status == status ? error.text : "");
    exit(1);
}

int main(int argc, char **argv)
{
    pacs_engine *engine;
    pacs_data_set *keys, *match;
    pacs_matches *matches;
    pacs_instance *instance;
    pacs_reader *reader;
    pacs_stored stored = {.struct_size = sizeof stored};
    char configuration[1024], name[256], bytes[65536];
    size_t length, total = 0;

    if (argc != 3)
        return fprintf(stderr, "which file, and where to keep it?\n"), 2;
    check(pacs_check_abi(PACS_ABI_VERSION), "libpacs");
    check(pacs_context_new(NULL, &context), "context");
    snprintf(configuration, sizeof configuration, "data = '%s'", argv[2]);
    check(pacs_engine_open(context, configuration, NULL, &engine), "open");

    /* When this returns, the instance is on stable storage, and found. */
    check(pacs_store_file(engine, NULL, argv[1], &stored), "store");

    check(pacs_data_set_new(context, &keys), "keys");
    check(pacs_data_set_put(keys, 0x00100010, NULL, "*"), "Patient's Name");
    check(pacs_data_set_put(keys, 0x0020000D, NULL, stored.study), "Study Instance UID");
    check(pacs_find(engine, NULL, PACS_LEVEL_STUDY, keys, 0, &matches), "find");
    while (check(pacs_matches_next(matches, &match), "next match")) {
        if (pacs_data_set_text(match, 0x00100010, 0, name, sizeof name, NULL) == PACS_OK)
            printf("a study of %s\n", name);
        pacs_data_set_free(match);
    }
    check(pacs_lookup(engine, stored.instance, &instance), "lookup");
    check(pacs_instance_open(instance, NULL, PACS_FORM_FILE, &reader), "open instance");
    while (check(pacs_reader_read(reader, bytes, sizeof bytes, &length), "read"))
        total += length;
    printf("%zu bytes read back\n", total);
    pacs_reader_free(reader), pacs_instance_free(instance), pacs_matches_free(matches), pacs_data_set_free(keys);
    check(pacs_engine_close(engine), "close");
    return pacs_context_free(context) == PACS_OK ? 0 : 1;
}
