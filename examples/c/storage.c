/* An archive of one's own: instances are plain files of one directory, and the engine of libpacs is opened on it.
 *
 * Run with: make -C examples/c && examples/c/storage DIRECTORY [FILE...]
 *
 *   order               a line of RECORD bytes for each commit and removal; its number is the sequence
 *   0000000000000001    an instance: the number of its line, in hexadecimal digits, which is its locator
 *   incoming-1          an instance on its way in
 *
 * An instance is kept when it has its line and its file. So a crash leaves nothing half: a line without its file is
 * passed over, and a file without its line is deleted by the next opening. */
#define _DEFAULT_SOURCE /* flock */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pacs.h>

enum { RECORD = 256, PLACE = 16, NAME = 32, PIECE = 65536 };

struct archive {
    int directory, order;
    pthread_mutex_t lock;        /* over what follows, and over new lines */
    uint64_t sequence, incoming; /* the last numbers that were given out */
};

struct writer {
    int file;
    char name[NAME];
    uint64_t checksum;
};

struct cursor {
    uint64_t at, end;
};

/* Says in `reason` what failed, and answers with the status that fits. */
static int32_t failed(char *reason, const char *what)
{
    int error = errno;
    snprintf(reason, PACS_ARCHIVE_REASON_LENGTH, "%s: %s", what, strerror(error));
    if (error == ENOSPC || error == EDQUOT || error == ENOMEM || error == EMFILE || error == ENFILE)
        return PACS_OUT_OF_RESOURCES;
    if (error == ENOENT)
        return PACS_NOT_FOUND;
    return error == EWOULDBLOCK ? PACS_REFUSED : PACS_IO;
}

/* FNV-1a: any single changed byte changes it. It tells damage, not a forger. */
#define CHECKSUM_OF_NOTHING UINT64_C(0xcbf29ce484222325)

static uint64_t checksum(uint64_t sum, const unsigned char *bytes, size_t length)
{
    while (length-- > 0)
        sum = (sum ^ *bytes++) * UINT64_C(0x100000001b3);
    return sum;
}

/* The place that a locator says; 0, which is none, for the locator of somebody else. */
static uint64_t place_of(const void *locator, size_t length, char *name)
{
    if (length != PLACE)
        return 0;
    memcpy(name, locator, length);
    name[length] = '\0';
    return strspn(name, "0123456789abcdef") == PLACE ? strtoull(name, NULL, 16) : 0;
}

/* Writes the next line, whose number `entry` has. The lock is held. */
static int add_line(struct archive *archive, char what, uint64_t sum, const pacs_archive_entry *entry)
{
    char line[RECORD + 1];
    ssize_t written;
    snprintf(line, sizeof line, "%c %.*s %016" PRIx64 " %s %s %s", what, PLACE, (const char *)entry->locator, sum,
             entry->study, entry->series, entry->instance);
    memset(line + strlen(line), ' ', RECORD - strlen(line));
    line[RECORD - 1] = '\n';
    written = pwrite(archive->order, line, RECORD, (off_t)((entry->sequence - 1) * RECORD));
    if (written != RECORD) {
        /* The next line takes its place. */
        errno = written < 0 ? errno : ENOSPC;
        return -1;
    }
    archive->sequence = entry->sequence;
    return 0;
}

/* Reads the line of a number. Answers 0 for one that a crash left undone: nobody was told that it is kept. */
static int read_line(const struct archive *archive, uint64_t number, pacs_archive_entry *entry, uint64_t *sum)
{
    char line[RECORD + 1] = "", what, place[PLACE + 1], digits[PLACE + 1];
    ssize_t length = pread(archive->order, line, RECORD, (off_t)((number - 1) * RECORD));
    if (length < 0)
        return -1;
    if (length != RECORD || line[RECORD - 1] != '\n' ||
        sscanf(line, "%c %16s %16s %64s %64s %64s", &what, place, digits, entry->study, entry->series,
               entry->instance) != 6)
        return 0;
    *sum = strtoull(digits, NULL, 16);
    entry->sequence = number;
    entry->removed = what == '-';
    entry->locator_length = PLACE;
    memcpy(entry->locator, place, PLACE);
    return 1;
}

/* Makes lines and names durable. */
static int flush(const struct archive *archive)
{
    return fdatasync(archive->order) != 0 || fsync(archive->directory) != 0 ? -1 : 0;
}

static int32_t archive_begin(void *user, void **result, char *reason)
{
    struct archive *archive = user;
    struct writer *writer = malloc(sizeof *writer);
    int32_t status;
    if (writer == NULL)
        return failed(reason, "a writer");
    pthread_mutex_lock(&archive->lock);
    snprintf(writer->name, sizeof writer->name, "incoming-%" PRIu64, ++archive->incoming);
    pthread_mutex_unlock(&archive->lock);
    writer->checksum = CHECKSUM_OF_NOTHING;
    writer->file = openat(archive->directory, writer->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (writer->file < 0) {
        status = failed(reason, "a new file");
        free(writer);
        return status;
    }
    *result = writer;
    return PACS_OK;
}

static int32_t archive_write(void *user, void *given, const void *bytes, size_t length, char *reason)
{
    struct writer *writer = given;
    const unsigned char *rest = bytes;
    (void)user;
    writer->checksum = checksum(writer->checksum, rest, length);
    while (length > 0) {
        ssize_t written = write(writer->file, rest, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return failed(reason, "a file on its way in");
        rest += written;
        length -= (size_t)written;
    }
    return PACS_OK;
}

static void archive_abort(void *user, void *given)
{
    struct archive *archive = user;
    struct writer *writer = given;
    close(writer->file);
    unlinkat(archive->directory, writer->name, 0);
    free(writer);
}

static int32_t archive_commit(void *user, void *given, pacs_archive_entry *entry, char *reason)
{
    struct archive *archive = user;
    struct writer *writer = given;
    struct timespec received = {(time_t)(entry->received / 1000), (long)(entry->received % 1000) * 1000000};
    char name[NAME] = "";
    int32_t status = PACS_OK;
    int kept = futimens(writer->file, (struct timespec[]){received, received}) == 0 && fsync(writer->file) == 0;
    if (kept) {
        /* One after the other, so that whoever sees a line sees all before it. */
        pthread_mutex_lock(&archive->lock);
        entry->sequence = archive->sequence + 1;
        snprintf(name, sizeof name, "%016" PRIx64, entry->sequence);
        entry->locator_length = PLACE;
        memcpy(entry->locator, name, PLACE);
        kept = add_line(archive, '+', writer->checksum, entry) == 0 &&
               renameat(archive->directory, writer->name, archive->directory, name) == 0;
        pthread_mutex_unlock(&archive->lock);
    }
    if (!kept) {
        status = failed(reason, "a file on its way in");
    } else if (flush(archive) != 0) { /* Outside of the lock: commits at the same time share it. */
        status = failed(reason, "the directory");
        unlinkat(archive->directory, name, 0);
    }
    archive_abort(user, given); /* Of what was renamed this ends no more than the writer. */
    return status;
}

static int32_t archive_read(void *user, const void *locator, size_t locator_length, uint64_t offset, void *buffer,
                            size_t capacity, size_t *length, char *reason)
{
    struct archive *archive = user;
    char name[NAME];
    int32_t status = PACS_OK;
    ssize_t got = 0;
    int file;
    if (place_of(locator, locator_length, name) == 0)
        return PACS_NOT_FOUND;
    file = openat(archive->directory, name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return failed(reason, "an instance");
    if (offset <= INT64_MAX) {
        do
            got = pread(file, buffer, capacity, (off_t)offset);
        while (got < 0 && errno == EINTR);
    }
    if (got < 0)
        status = failed(reason, "an instance");
    else if (got == 0)
        status = PACS_END;
    else
        *length = (size_t)got;
    close(file);
    return status;
}

static int32_t archive_verify(void *user, const void *locator, size_t locator_length, char *reason)
{
    unsigned char buffer[PIECE];
    char name[NAME];
    pacs_archive_entry entry;
    uint64_t wanted, offset = 0, sum = CHECKSUM_OF_NOTHING, place = place_of(locator, locator_length, name);
    size_t length;
    int32_t status;
    int found;
    while ((status = archive_read(user, locator, locator_length, offset, buffer, sizeof buffer, &length, reason)) ==
           PACS_OK) {
        sum = checksum(sum, buffer, length);
        offset += length;
    }
    if (status != PACS_END)
        return status;
    found = read_line(user, place, &entry, &wanted);
    if (found < 0)
        return failed(reason, "the order");
    if (found == 1 && sum == wanted)
        return PACS_OK;
    snprintf(reason, PACS_ARCHIVE_REASON_LENGTH, "the bytes are not those that were written");
    return PACS_CORRUPT;
}

static int32_t archive_remove(void *user, const char *instance, const void *locator, size_t locator_length,
                              uint64_t *sequence, char *reason)
{
    struct archive *archive = user;
    pacs_archive_entry entry = {.study = "-", .series = "-"};
    char name[NAME];
    int done = 0;
    pthread_mutex_lock(&archive->lock);
    if (place_of(locator, locator_length, name) != 0 && faccessat(archive->directory, name, F_OK, 0) == 0) {
        entry.sequence = archive->sequence + 1;
        memcpy(entry.locator, name, PLACE);
        snprintf(entry.instance, sizeof entry.instance, "%s", instance);
        /* After a crash in between, the next opening goes on from the line. */
        done = add_line(archive, '-', 0, &entry);
        if (done == 0)
            done = unlinkat(archive->directory, name, 0);
    }
    *sequence = archive->sequence;
    pthread_mutex_unlock(&archive->lock);
    /* Also where it is gone already: whoever removed it may not have come so far. */
    return done == 0 && flush(archive) == 0 ? PACS_OK : failed(reason, "a removal");
}

static int32_t archive_scan(void *user, uint64_t after, void **result, char *reason)
{
    struct archive *archive = user;
    struct cursor *cursor = malloc(sizeof *cursor);
    int32_t status;
    if (cursor == NULL)
        return failed(reason, "a scan");
    pthread_mutex_lock(&archive->lock);
    *cursor = (struct cursor){.at = after, .end = archive->sequence};
    pthread_mutex_unlock(&archive->lock);
    /* What is told must not be lost any more, also where its own flush is still to come. */
    if (flush(archive) != 0) {
        status = failed(reason, "the directory");
        free(cursor);
        return status;
    }
    *result = cursor;
    return PACS_OK;
}

static int32_t archive_scan_next(void *user, void *given, pacs_archive_entry *entry, char *reason)
{
    struct archive *archive = user;
    struct cursor *cursor = given;
    struct stat file;
    char name[NAME];
    uint64_t sum;
    int found;
    while (cursor->at < cursor->end) {
        if ((found = read_line(archive, ++cursor->at, entry, &sum)) < 0)
            return failed(reason, "the order");
        if (found == 0)
            continue;
        if (entry->removed)
            return PACS_OK;
        snprintf(name, sizeof name, "%016" PRIx64, entry->sequence);
        if (fstatat(archive->directory, name, &file, AT_SYMLINK_NOFOLLOW) == 0) {
            entry->length = (uint64_t)file.st_size;
            entry->received = (uint64_t)file.st_mtim.tv_sec * 1000 + (uint64_t)file.st_mtim.tv_nsec / 1000000;
            return PACS_OK;
        }
        if (errno != ENOENT) /* Else it was removed since. */
            return failed(reason, "an instance");
    }
    return PACS_END;
}

static void archive_scan_end(void *user, void *cursor)
{
    (void)user;
    free(cursor);
}

static int32_t archive_indexed(void *user, uint64_t sequence, char *reason)
{
    (void)user, (void)sequence, (void)reason; /* A scan begins anywhere at the same cost. */
    return PACS_OK;
}

static void archive_destroy(void *user)
{
    struct archive *archive = user;
    close(archive->order);
    close(archive->directory);
    pthread_mutex_destroy(&archive->lock);
    free(archive);
}

/* Finds the last sequence, and ends what an earlier process left. */
static int recover(struct archive *archive)
{
    DIR *directory = fdopendir(openat(archive->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *found;
    struct stat order;
    pacs_archive_entry entry;
    char name[NAME];
    uint64_t sum, at;
    if (directory == NULL || fstat(archive->order, &order) != 0)
        return -1;
    archive->sequence = (uint64_t)order.st_size / RECORD;
    while ((found = readdir(directory)) != NULL)
        if (strncmp(found->d_name, "incoming-", 9) == 0 ||
            place_of(found->d_name, strlen(found->d_name), name) > archive->sequence)
            unlinkat(archive->directory, found->d_name, 0);
    closedir(directory);
    for (at = 1; at <= archive->sequence; at++)
        if (read_line(archive, at, &entry, &sum) == 1 && entry.removed && place_of(entry.locator, PLACE, name) != 0 &&
            unlinkat(archive->directory, name, 0) != 0 && errno != ENOENT)
            return -1;
    return flush(archive);
}

/* Opens the archive in the directory at `path`, which is made where it isn't there; one process at a time. */
int32_t directory_archive(const char *path, pacs_archive *result, char *reason)
{
    struct archive *archive = calloc(1, sizeof *archive);
    int32_t status;
    int parent = -1;
    if (archive == NULL)
        return failed(reason, "an archive");
    archive->directory = archive->order = -1;
    pthread_mutex_init(&archive->lock, NULL);
    mkdir(path, 0777);
    /* A new directory must not be lost either: the one that it is in is flushed. */
    if ((archive->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        (archive->order = openat(archive->directory, "order", O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0 ||
        flock(archive->order, LOCK_EX | LOCK_NB) != 0 ||
        (parent = openat(archive->directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        fsync(parent) != 0 || recover(archive) != 0) {
        status = failed(reason, path);
        close(parent);
        archive_destroy(archive);
        return status;
    }
    close(parent);
    *result = (pacs_archive){
        .struct_size = sizeof *result, .user = archive, .destroy = archive_destroy,
        .version = PACS_ARCHIVE_VERSION, .capability = PACS_ARCHIVE_DURABLE | PACS_ARCHIVE_ORDERED_SCAN,
        .begin = archive_begin, .write = archive_write, .commit = archive_commit, .abort = archive_abort,
        .read = archive_read, .remove = archive_remove, .verify = archive_verify, .indexed = archive_indexed,
        .scan = archive_scan, .scan_next = archive_scan_next, .scan_end = archive_scan_end,
    };
    return PACS_OK;
}

#ifndef ARCHIVE_ALONE /* A program that has a main of its own takes the archive alone. */
static pacs_context *context;

static void check(pacs_status status, const char *what)
{
    pacs_error error = {.struct_size = sizeof error};
    if (status == PACS_OK)
        return;
    pacs_last_error(context, &error);
    fprintf(stderr, "%s: %s: %s\n", what, pacs_status_text((int32_t)status), error.text);
    exit(1);
}

int main(int argc, char **argv)
{
    pacs_archive archive;
    pacs_engine *engine;
    pacs_instances *instances;
    pacs_instance *instance;
    char configuration[1024], reason[PACS_ARCHIVE_REASON_LENGTH];
    uint64_t whole, damaged;
    int at;

    if (argc < 2)
        return fprintf(stderr, "where are instances kept, and which files are to be added?\n"), 2;
    check(pacs_check_abi(PACS_ABI_VERSION), "libpacs");
    check(pacs_context_new(NULL, &context), "context");
    if (directory_archive(argv[1], &archive, reason) != PACS_OK)
        return fprintf(stderr, "%s\n", reason), 1;
    /* The index is kept beside the instances. The archive is the engine's now, also if this fails. */
    snprintf(configuration, sizeof configuration, "data = '%s'", argv[1]);
    check(pacs_engine_open_on(context, configuration, &archive, NULL, &engine), "open");

    for (at = 2; at < argc; at++)
        check(pacs_store_file(engine, NULL, argv[at], NULL), argv[at]);

    check(pacs_walk(engine, PACS_LEVEL_ALL, NULL, &instances), "walk");
    while (pacs_instances_next(instances, &instance) == PACS_OK) {
        pacs_instance_info info = {.struct_size = sizeof info};
        check(pacs_instance_get_info(instance, &info), "information");
        printf("%s, %" PRIu64 " bytes\n", info.instance, info.length);
        pacs_instance_free(instance);
    }
    pacs_instances_free(instances);
    check(pacs_engine_verify(engine, NULL, &whole, &damaged), "verify");
    printf("%" PRIu64 " whole, %" PRIu64 " damaged\n", whole, damaged);
    check(pacs_engine_close(engine), "close");
    return pacs_context_free(context) == PACS_OK ? 0 : 1;
}
#endif
