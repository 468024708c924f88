/* What a viewer does with an embedded store: lists the studies of a patient's name, opens the first image of the last
 * of them, looks at its samples and draws a picture of it.
 *
 * Run with: make -C examples/c && examples/c/viewer DIRECTORY 'doe*' picture.png */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pacs.h>

enum { PATIENT_NAME = 0x00100010, STUDY_DATE = 0x00080020, STUDY_INSTANCE_UID = 0x0020000D, ROWS = 0x00280010 };

static pacs_context *context;

static void check(pacs_status status, const char *what)
{
    pacs_error error = {.struct_size = sizeof error};
    if (status == PACS_OK)
        return;
    pacs_last_error(context, &error);
    fprintf(stderr, "%s: %s: %s\n", what, pacs_status_text(status), error.status == status ? error.text : "");
    exit(1);
}

/* The first value of an attribute; empty when there is none. */
static const char *text(const pacs_data_set *set, uint32_t tag, char *buffer, size_t capacity)
{
    if (pacs_data_set_text(set, tag, 0, buffer, capacity, NULL) != PACS_OK)
        buffer[0] = 0;
    return buffer;
}

/* The first instance of a study that has an image; null when there is none. */
static pacs_instance *first_image(const pacs_engine *engine, const char *study)
{
    pacs_instances *instances;
    pacs_instance *instance = NULL;
    pacs_data_set *header;
    pacs_status status;
    size_t count;

    check(pacs_walk(engine, PACS_LEVEL_STUDY, study, &instances), "walk");
    while ((status = pacs_instances_next(instances, &instance)) == PACS_OK) {
        check(pacs_instance_header(instance, NULL, &header), "header");
        status = pacs_data_set_count(header, ROWS, &count);
        pacs_data_set_free(header);
        if (status == PACS_OK)
            break;
        pacs_instance_free(instance);
        instance = NULL;
    }
    if (status != PACS_OK && status != PACS_END)
        check(status, "walk");
    pacs_instances_free(instances);
    return instance;
}

/* Prints what range the samples of a decoded frame have. */
static void look_at(const pacs_pixels *pixels, pacs_reader *reader)
{
    size_t width = pixels->bits_allocated / 8, length, count, i, byte;
    /* The bits of a sample end at the High Bit; what lies beside them isn't part of it. */
    unsigned above = 63u - pixels->high_bit, below = 64u - pixels->bits_stored;
    double least = 0, greatest = 0, sum = 0, sample;
    unsigned char *bytes = malloc(pixels->length + 1);

    if (!bytes)
        exit(1);
    check(pacs_reader_read(reader, bytes, pixels->length, &length), "pixels");
    printf("%u x %u, %u samples of %u bits, %s\n", pixels->columns, pixels->rows, pixels->samples_per_pixel,
           pixels->bits_stored, pixels->photometric_interpretation);
    count = width == 0 || width > 4 ? 0 : length / width;
    for (i = 0; i < count; i++) {
        uint64_t cell = 0;
        for (byte = 0; byte < width; byte++)
            cell |= (uint64_t)bytes[i * width + byte] << (8 * byte);
        cell <<= above;
        sample = pixels->pixel_representation ? (double)((int64_t)cell >> below) : (double)(cell >> below);
        least = i == 0 || sample < least ? sample : least;
        greatest = i == 0 || sample > greatest ? sample : greatest;
        sum += sample;
    }
    if (count)
        printf("samples from %g to %g, %g in the mean\n", least, greatest, sum / (double)count);
    free(bytes);
}

int main(int argc, char **argv)
{
    pacs_engine *engine;
    pacs_data_set *keys, *study;
    pacs_matches *matches;
    pacs_instance *image = NULL;
    pacs_frames *frames;
    pacs_reader *reader;
    pacs_pixels pixels = {.struct_size = sizeof pixels};
    pacs_picture picture = {.struct_size = sizeof picture, .format = PACS_PICTURE_PNG};
    pacs_status status;
    char buffer[65536], uid[PACS_UID_LENGTH];
    size_t length, total = 0;
    FILE *file;

    if (argc != 4)
        return fprintf(stderr, "which store, whose studies, and where does the picture go?\n"), 2;
    check(pacs_check_abi(PACS_ABI_VERSION), "libpacs");
    check(pacs_context_new(NULL, &context), "context");
    snprintf(buffer, sizeof buffer, "data = '%s'", argv[1]);
    check(pacs_engine_open(context, buffer, NULL, &engine), "open");

    check(pacs_data_set_new(context, &keys), "keys");
    check(pacs_data_set_put(keys, PATIENT_NAME, NULL, argv[2]), "Patient's Name");
    check(pacs_data_set_put(keys, STUDY_DATE, NULL, NULL), "Study Date");
    check(pacs_data_set_put(keys, STUDY_INSTANCE_UID, NULL, NULL), "Study Instance UID");
    check(pacs_find(engine, NULL, PACS_LEVEL_STUDY, keys, 0, &matches), "find");
    while ((status = pacs_matches_next(matches, &study)) == PACS_OK) {
        printf("%s  ", text(study, STUDY_DATE, buffer, sizeof buffer));
        printf("%s\n", text(study, PATIENT_NAME, buffer, sizeof buffer));
        if (!image)
            image = first_image(engine, text(study, STUDY_INSTANCE_UID, uid, sizeof uid));
        pacs_data_set_free(study);
    }
    if (status != PACS_END)
        check(status, "find");
    if (!image)
        return fprintf(stderr, "no study of this name has an image\n"), 1;

    check(pacs_frames_open(image, NULL, &frames, NULL), "frames");
    check(pacs_frames_decode(frames, 1, &pixels, &reader), "decode");
    look_at(&pixels, reader);
    pacs_reader_free(reader), pacs_frames_free(frames);

    length = strlen(argv[3]);
    if (length > 4 && strcmp(argv[3] + length - 4, ".jpg") == 0)
        picture.format = PACS_PICTURE_JPEG;
    check(pacs_instance_render(image, NULL, &picture, &reader), "render");
    file = fopen(argv[3], "wb");
    if (!file)
        return fprintf(stderr, "the picture can't be written\n"), 1;
    while ((status = pacs_reader_read(reader, buffer, sizeof buffer, &length)) == PACS_OK)
        total += fwrite(buffer, 1, length, file);
    if (status != PACS_END)
        check(status, "picture");
    if (fclose(file) != 0)
        return fprintf(stderr, "the picture can't be written\n"), 1;
    printf("%zu bytes of picture\n", total);

    pacs_reader_free(reader), pacs_instance_free(image);
    pacs_matches_free(matches), pacs_data_set_free(keys);
    check(pacs_engine_close(engine), "close");
    return pacs_context_free(context) == PACS_OK ? 0 : 1;
}
