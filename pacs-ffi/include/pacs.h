/*
 * pacs.h: a PACS inside your program.
 *
 * Made of the crate pacs-ffi by cbindgen; not to be changed by hand.
 *
 * Rules that hold for every function, where its own comment says nothing else:
 *
 * - It returns a pacs_status: PACS_OK, or why not. Results are written on success alone.
 * - What it makes is freed by the function that its comment names. A context is freed last. The functions that free
 *   take null, and do nothing then.
 * - A handle (pacs_engine *, pacs_data_set *, ...) looks like a pointer and must not be followed. One that was freed,
 *   that is of another kind or that never was one is answered with PACS_BAD_HANDLE.
 * - A pointer that is not null points to what its type says, as long as the call runs. What a function is given to
 *   read (strings, bytes, structures) is the caller's again when it returns.
 * - Text is UTF-8 and ends with NUL. Other text is answered with PACS_BAD_ARGUMENT.
 * - A structure begins with struct_size, which the caller sets to its sizeof: so a program that was compiled with an
 *   older header goes on working. Set the rest to zero before you fill it: { .struct_size = sizeof x }.
 * - It may be called from any thread, and by many at once, unless the comment of its type says "from one thread at a
 *   time".
 * - Why a call failed is told by pacs_last_error, to the thread that made it.
 * - No panic crosses: a failure of the library itself is PACS_INTERNAL, and everything else goes on.
 * - Callbacks may call the library, from whichever thread they are called on, unless their comment says otherwise.
 *   They must not throw C++ exceptions or longjmp through it: pacs.hpp catches what C++ code throws.
 * - Errors and lines of the log hold no patient data.
 */

#ifndef PACS_H
#define PACS_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of `pacs_archive` that this header has.
 */
#define PACS_ARCHIVE_VERSION 1

/**
 * A committed instance survives the death of the process and of the machine.
 */
#define PACS_ARCHIVE_DURABLE 1

/**
 * A scan begins after a sequence, is in ascending order, and tells of removals. Where it can't, it always tells
 * everything that is kept, in any order, and nothing of removals.
 */
#define PACS_ARCHIVE_ORDERED_SCAN 2

/**
 * The longest locator.
 */
#define PACS_LOCATOR_LENGTH 255

/**
 * Room for the words in which a function of an archive says why it failed, with NUL.
 */
#define PACS_ARCHIVE_REASON_LENGTH 256

/**
 * Room for a pseudonym and NUL.
 */
#define PACS_PSEUDONYM_LENGTH 65

/**
 * Room for an operation's name.
 */
#define PACS_OPERATION_LENGTH 48

/**
 * Room for an error's text.
 */
#define PACS_ERROR_TEXT_LENGTH 512

/**
 * Person names also match when they sound or are written alike (PS3.4 C.2.2.2.1.1).
 */
#define PACS_FIND_FUZZY 1

/**
 * Of several values in one key each must match, not any (PS3.4 C.2.2.2.8).
 */
#define PACS_FIND_MULTIPLE_VALUES 2

/**
 * A date range and a time range of one pair of attributes are not one range of date-times (PS3.4 C.2.2.2.5.4).
 */
#define PACS_FIND_SEPARATE_DATE_TIME 4

/**
 * Room for a Photometric Interpretation and NUL.
 */
#define PACS_PHOTOMETRIC_LENGTH 17

/**
 * Room for the reason that a hook gives, with NUL: what fits an Error Comment (0000,0902).
 */
#define PACS_REASON_LENGTH 65

/**
 * Room for an AE title, with NUL.
 */
#define PACS_AE_TITLE_LENGTH 17

/**
 * The destinations that one instance may have.
 */
#define PACS_ROUTES_MAX 64

/**
 * Room for a UID of 64 characters and NUL.
 */
#define PACS_UID_LENGTH 65

/**
 * The version of the binary interface. It grows when something is added; a program that was made with a header of a
 * greater one needs what this library may lack.
 */
#define PACS_ABI_VERSION 1

/**
 * What came of a call. A number never changes its meaning; new ones are added at the end.
 */
typedef enum pacs_status {
    /**
     * It succeeded.
     */
    PACS_OK = 0,
    /**
     * There is no more: an iterator or a reader is at its end. Not a failure; nothing was written.
     */
    PACS_END = 1,
    /**
     * What was asked for is not kept here.
     */
    PACS_NOT_FOUND = 2,
    /**
     * Something else is already kept under this name, and the policy is to refuse.
     */
    PACS_ALREADY_EXISTS = 3,
    /**
     * Bytes or values can't be understood.
     */
    PACS_INVALID = 4,
    /**
     * The data set contradicts what was said of it.
     */
    PACS_MISMATCH = 5,
    /**
     * Understood, but not offered here.
     */
    PACS_UNSUPPORTED = 6,
    /**
     * Understood, but not allowed: by a hook, by access control, or by what goes on at the moment.
     */
    PACS_REFUSED = 7,
    /**
     * No room: disk, memory budget or another limit. Try again later.
     */
    PACS_OUT_OF_RESOURCES = 8,
    /**
     * Stored bytes are not what was stored.
     */
    PACS_CORRUPT = 9,
    /**
     * Whoever asked for it cancelled it.
     */
    PACS_CANCELLED = 10,
    /**
     * A wait ended without the event.
     */
    PACS_TIMED_OUT = 11,
    /**
     * The engine, server, association or connection is closed.
     */
    PACS_CLOSED = 12,
    /**
     * The medium or the peer failed.
     */
    PACS_IO = 13,
    /**
     * A failure of the library itself, contained: this call failed, everything else goes on.
     */
    PACS_INTERNAL = 14,
    /**
     * An argument breaks the rules of the header: null, no UTF-8, a wrong `struct_size`, an unknown number.
     */
    PACS_BAD_ARGUMENT = 15,
    /**
     * Not an open handle, or one of another kind.
     */
    PACS_BAD_HANDLE = 16,
    /**
     * The buffer is too small; the length that is needed was written.
     */
    PACS_BUFFER_TOO_SMALL = 17,
} pacs_status;

/**
 * What happened: a number.
 */
typedef enum pacs_event_kind {
    /**
     * An instance was stored, or was there already.
     */
    PACS_EVENT_STORED = 1,
    /**
     * An instance was removed.
     */
    PACS_EVENT_REMOVED = 2,
    /**
     * Attributes of an instance were corrected: it leaves with other values than before.
     */
    PACS_EVENT_AMENDED = 3,
    /**
     * The hook `route` decided that an instance that was stored goes to a destination.
     */
    PACS_EVENT_ROUTED = 4,
} pacs_event_kind;

/**
 * What a stored instance was to the engine.
 */
typedef enum pacs_outcome {
    /**
     * Nothing was kept under its SOP Instance UID.
     */
    PACS_OUTCOME_NEW = 0,
    /**
     * The same bytes were kept already.
     */
    PACS_OUTCOME_ALREADY_KEPT = 1,
    /**
     * Different bytes were kept; they are an earlier version now.
     */
    PACS_OUTCOME_REPLACED = 2,
    /**
     * Different bytes were kept and still are; these are not.
     */
    PACS_OUTCOME_FIRST_KEPT = 3,
} pacs_outcome;

/**
 * What entities are of: a number that calls take as `int32_t`.
 */
typedef enum pacs_level {
    /**
     * Everything that is kept.
     */
    PACS_LEVEL_ALL = 0,
    /**
     * A patient, by Patient ID (0010,0020).
     */
    PACS_LEVEL_PATIENT = 1,
    /**
     * A study, by Study Instance UID (0020,000D).
     */
    PACS_LEVEL_STUDY = 2,
    /**
     * A series, by Series Instance UID (0020,000E).
     */
    PACS_LEVEL_SERIES = 3,
    /**
     * An instance, by SOP Instance UID (0008,0018).
     */
    PACS_LEVEL_INSTANCE = 4,
} pacs_level;

/**
 * In which form an instance is read: a number that calls take as `int32_t`.
 */
typedef enum pacs_form {
    /**
     * The file as it leaves: with what was coerced in place of what came, and where nothing was, the stored bytes.
     */
    PACS_FORM_FILE = 0,
    /**
     * The data set alone, as it leaves.
     */
    PACS_FORM_DATA_SET = 1,
    /**
     * The file as it is stored, whatever was coerced.
     */
    PACS_FORM_STORED = 2,
} pacs_form;

/**
 * Of what format a picture is: a number that `pacs_picture` takes as `int32_t`.
 */
typedef enum pacs_picture_format {
    /**
     * PNG, without loss.
     */
    PACS_PICTURE_PNG = 0,
    /**
     * JPEG.
     */
    PACS_PICTURE_JPEG = 1,
} pacs_picture_format;

/**
 * The information model of a query (PS3.4 C.6): a number that calls take as `int32_t`.
 */
typedef enum pacs_model {
    /**
     * Study Root.
     */
    PACS_MODEL_STUDY_ROOT = 0,
    /**
     * Patient Root.
     */
    PACS_MODEL_PATIENT_ROOT = 1,
} pacs_model;

/**
 * Ends calls from another thread.
 */
typedef struct pacs_cancel pacs_cancel;

/**
 * Threads, errors and log of one user of the library. Everything else belongs to a context.
 */
typedef struct pacs_context pacs_context;

/**
 * A data set in memory: what a query asks, a match, the header of an instance. Text in it is UTF-8, whatever it was
 * before.
 */
typedef struct pacs_data_set pacs_data_set;

/**
 * De-identifies instances by a profile, within a project. May be used from any thread, and from many at once, with
 * instances of each engine of its context.
 */
typedef struct pacs_deidentifier pacs_deidentifier;

/**
 * An open store: keeps instances, finds them and hands them out. May be used from any thread, and from many at once.
 */
typedef struct pacs_engine pacs_engine;

/**
 * Reads single frames of an instance, never the whole of it for one frame. May be used from any thread, and from many
 * at once.
 */
typedef struct pacs_frames pacs_frames;

/**
 * An instance that is kept, as it was when it was looked up. May be used from any thread, and from many at once.
 */
typedef struct pacs_instance pacs_instance;

/**
 * Instances, one after the other. From one thread at a time.
 */
typedef struct pacs_instances pacs_instances;

/**
 * The matches of a query, one after the other. From one thread at a time.
 */
typedef struct pacs_matches pacs_matches;

/**
 * Bytes that are read piece by piece. From one thread at a time.
 */
typedef struct pacs_reader pacs_reader;

/**
 * An instance on its way in, in pieces. From one thread at a time.
 */
typedef struct pacs_receipt pacs_receipt;

/**
 * A server that runs. May be used from any thread.
 */
typedef struct pacs_server pacs_server;

/**
 * Who sends or asks, as far as it is known. It is what hooks are told, and where the configuration has an `[access]`
 * table, who may what is held against it: a call that names no source is the program's own, and needs no leave.
 */
typedef struct pacs_source {
    /**
     * `sizeof(pacs_source)`.
     */
    size_t struct_size;
    /**
     * Calling AE title; may be null.
     */
    const char *calling_ae;
    /**
     * Called AE title; may be null.
     */
    const char *called_ae;
    /**
     * Network address with its port, as in `192.0.2.7:104` or `[2001:db8::7]:104`; may be null.
     */
    const char *address;
    /**
     * The user that the program has proven; may be null. The user's roles count then, in place of the peer's.
     */
    const char *user;
    /**
     * The roles of the user, with commas between; may be null.
     */
    const char *roles;
} pacs_source;

/**
 * Called with an instance that is damaged, or that could not be amended, and why. On the thread of the call; it may call the library. The strings
 * are valid during the call.
 */
typedef void (*pacs_damaged)(void *user, const char *sop_instance_uid, const char *why);

/**
 * What an amendment came to.
 */
typedef struct pacs_amended {
    /**
     * `sizeof(pacs_amended)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Instances that leave with other values than before.
     */
    uint64_t amended;
    /**
     * Instances that had these values already.
     */
    uint64_t unchanged;
    /**
     * Instances that stay as they were because they could not be amended.
     */
    uint64_t failed;
} pacs_amended;

/**
 * An instance that an archive of the caller's own keeps, or the removal of one.
 */
typedef struct pacs_archive_entry {
    /**
     * `sizeof(pacs_archive_entry)` of the library, set by it: what lies behind isn't there.
     */
    size_t struct_size;
    /**
     * Its place in the order of commits and removals: greater means later, 0 and `UINT64_MAX` are none.
     */
    uint64_t sequence;
    /**
     * Length of the whole file in bytes; at most `INT64_MAX`.
     */
    uint64_t length;
    /**
     * When it was committed, in milliseconds since 1970-01-01 UTC.
     */
    uint64_t received;
    /**
     * Not 0: what was kept there was removed. Then `length`, `received`, `study` and `series` say nothing.
     */
    int32_t removed;
    /**
     * Bytes of `locator` that say something: 1 to `PACS_LOCATOR_LENGTH`.
     */
    uint32_t locator_length;
    /**
     * Where it is kept: the archive's own encoding of a place, of which the library knows nothing but that it stays.
     */
    uint8_t locator[PACS_LOCATOR_LENGTH];
    /**
     * Study Instance UID.
     */
    char study[PACS_UID_LENGTH];
    /**
     * Series Instance UID.
     */
    char series[PACS_UID_LENGTH];
    /**
     * SOP Instance UID.
     */
    char instance[PACS_UID_LENGTH];
} pacs_archive_entry;

/**
 * An archive of the caller's own: it keeps the bytes of instances, each a DICOM file (PS3.10), and does not look into
 * them. `examples/c/storage.c` is one.
 *
 * Its functions
 *
 * - are called from any thread: of the caller, of servers, of the engine; and many at once. One writer, and one
 *   cursor, is used by one thread at a time, not always by the same.
 * - block until it is done. They answer `PACS_OK`, or by the `pacs_status` that fits why not; a number that is none
 *   counts as `PACS_INTERNAL`. `reason` is room for `PACS_ARCHIVE_REASON_LENGTH` bytes, in which they may say it in words,
 *   UTF-8, without patient data.
 * - must not change an engine: what would is answered with `PACS_REFUSED`. They may call what else the library has.
 * - are given what is valid during the call.
 *
 * What they give is checked, so that an archive which breaks these rules fails with `PACS_INTERNAL`, where that shows.
 * All of them must be there but `destroy`.
 */
typedef struct pacs_archive {
    /**
     * `sizeof(pacs_archive)`.
     */
    size_t struct_size;
    /**
     * Given to all functions.
     */
    void *user;
    /**
     * Called with `user` once, after the last use; may be null. That is when the engine is closed, or as soon as
     * what was got from it is freed too; on any thread.
     */
    void (*destroy)(void *user);
    /**
     * `PACS_ARCHIVE_VERSION`.
     */
    uint32_t version;
    /**
     * What it can do: `PACS_ARCHIVE_...`, added up.
     */
    uint32_t capability;
    /**
     * Begins an instance; `writer` becomes what the other functions are given for it. Nothing of it is told by a
     * reading or a scan before its commit. `PACS_OUT_OF_RESOURCES` when there is no room.
     */
    int32_t (*begin)(void *user, void **writer, char *reason);
    /**
     * Appends bytes. May wait while too much is unwritten: that is how a fast sender is slowed down. After a failure
     * the writer is only aborted.
     */
    int32_t (*write)(void *user, void *writer, const void *bytes, size_t length, char *reason);
    /**
     * Makes an instance durable and visible, and ends the writer, whatever it answers. `entry` has the UIDs, the
     * length and the time, and is to be given sequence and locator; the time may be changed. After `PACS_OK` a
     * reading gives the written bytes for ever, and after a failure nothing is kept. Two commits of one instance are
     * both kept, at two locators.
     *
     * Commits and removals come from a few threads that do nothing else: those at the same time may share a flush.
     */
    int32_t (*commit)(void *user, void *writer, struct pacs_archive_entry *entry, char *reason);
    /**
     * Gives an instance up, and ends the writer: nothing of it is kept.
     */
    void (*abort)(void *user, void *writer);
    /**
     * Reads from `offset` of the file at `locator`, as many bytes as fit, or fewer, but at least one. `length` becomes
     * how many they are. `PACS_END` at the end of the file and behind it, `PACS_NOT_FOUND` when nothing is kept there,
     * which a locator of somebody else may say too, `PACS_CORRUPT` for bytes that are not what was written, where
     * that can be told.
     */
    int32_t (*read)(void *user,
                    const void *locator,
                    size_t locator_length,
                    uint64_t offset,
                    void *buffer,
                    size_t capacity,
                    size_t *length,
                    char *reason);
    /**
     * Removes what is kept at `locator`, as durably as a commit is; `sequence` becomes its place in the order.
     * Removing what isn't there succeeds, with a sequence that isn't smaller than the last one.
     */
    int32_t (*remove)(void *user,
                      const char *sop_instance_uid,
                      const void *locator,
                      size_t locator_length,
                      uint64_t *sequence,
                      char *reason);
    /**
     * Begins to tell what was committed and not removed since, and what was removed, after the sequence `after`;
     * after 0 everything that is kept. `cursor` becomes what `scan_next` and `scan_end` are given.
     */
    int32_t (*scan)(void *user, uint64_t after, void **cursor, char *reason);
    /**
     * Tells the next one in `entry`, which is all zero but for its `struct_size`; `PACS_END` behind the last one.
     */
    int32_t (*scan_next)(void *user, void *cursor, struct pacs_archive_entry *entry, char *reason);
    /**
     * Ends a scan, at its end or before.
     */
    void (*scan_end)(void *user, void *cursor);
    /**
     * Compares what is kept at `locator` with the checksum made when it was written: `PACS_CORRUPT` when it differs,
     * `PACS_NOT_FOUND` when nothing is kept there. Where there are no checksums, whether it can be read.
     */
    int32_t (*verify)(void *user, const void *locator, size_t locator_length, char *reason);
    /**
     * Hints that an index durably knows everything up to `sequence`. To do nothing is right.
     */
    int32_t (*indexed)(void *user, uint64_t sequence, char *reason);
} pacs_archive;

/**
 * An association that a peer asks for.
 */
typedef struct pacs_associating {
    /**
     * `sizeof(pacs_associating)`.
     */
    size_t struct_size;
    /**
     * Who asks.
     */
    const struct pacs_source *source;
    /**
     * Type of the user identity (PS3.7 D.3.3.7): 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JSON web
     * token; 0 for none.
     */
    uint32_t identity_type;
    /**
     * User name, ticket, assertion or token; no NUL behind it.
     */
    const void *identity;
    /**
     * Its length in bytes.
     */
    size_t identity_length;
    /**
     * The passcode, with type 2; no NUL behind it.
     */
    const void *passcode;
    /**
     * Its length in bytes.
     */
    size_t passcode_length;
} pacs_associating;

/**
 * An instance whose bytes have arrived and that is about to be kept.
 */
typedef struct pacs_arriving {
    /**
     * `sizeof(pacs_arriving)`.
     */
    size_t struct_size;
    /**
     * Who sends it.
     */
    const struct pacs_source *source;
    /**
     * Study Instance UID.
     */
    const char *study;
    /**
     * Series Instance UID.
     */
    const char *series;
    /**
     * SOP Instance UID.
     */
    const char *instance;
    /**
     * What stands before its pixel data.
     */
    const struct pacs_data_set *header;
    /**
     * Empty: what is put here takes the place of what came (PS3.4 B.4.1.3). The stored bytes stay; queries find the
     * values given here, and the instance leaves with them and with the values it came with in Original Attributes
     * Sequence.
     */
    struct pacs_data_set *changes;
} pacs_arriving;

/**
 * A query that is about to be asked.
 */
typedef struct pacs_asking {
    /**
     * `sizeof(pacs_asking)`.
     */
    size_t struct_size;
    /**
     * Who asks.
     */
    const struct pacs_source *source;
    /**
     * What is asked for: a `pacs_level`.
     */
    int32_t level;
    /**
     * Its keys.
     */
    const struct pacs_data_set *keys;
    /**
     * Empty: keys that are put here must match too, so that who asks sees only a part.
     */
    struct pacs_data_set *restriction;
} pacs_asking;

/**
 * An instance that is about to be handed out.
 */
typedef struct pacs_retrieving {
    /**
     * `sizeof(pacs_retrieving)`.
     */
    size_t struct_size;
    /**
     * Who gets it.
     */
    const struct pacs_source *source;
    /**
     * Study Instance UID.
     */
    const char *study;
    /**
     * Series Instance UID.
     */
    const char *series;
    /**
     * SOP Instance UID.
     */
    const char *instance;
    /**
     * SOP Class UID.
     */
    const char *sop_class;
} pacs_retrieving;

/**
 * Something that happened and is durable.
 */
typedef struct pacs_event {
    /**
     * `sizeof(pacs_event)`.
     */
    size_t struct_size;
    /**
     * What happened.
     */
    enum pacs_event_kind kind;
    /**
     * Who sent or amended the instance; null where nobody did, and where it is routed. Of a file that is stored without
     * a source its Source Application Entity Title (0002,0016) is the calling AE title.
     */
    const struct pacs_source *source;
    /**
     * Study Instance UID.
     */
    const char *study;
    /**
     * Series Instance UID.
     */
    const char *series;
    /**
     * SOP Instance UID.
     */
    const char *instance;
    /**
     * Of an instance that was stored: what it was to the engine.
     */
    enum pacs_outcome outcome;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Where a routed instance goes; null where nothing is routed.
     */
    const char *destination;
} pacs_event;

/**
 * An instance that was stored, and of which it is to be decided where it goes.
 */
typedef struct pacs_routing {
    /**
     * `sizeof(pacs_routing)`.
     */
    size_t struct_size;
    /**
     * Who sent it.
     */
    const struct pacs_source *source;
    /**
     * Study Instance UID.
     */
    const char *study;
    /**
     * Series Instance UID.
     */
    const char *series;
    /**
     * SOP Instance UID.
     */
    const char *instance;
    /**
     * SOP Class UID.
     */
    const char *sop_class;
    /**
     * What is searched of it, of its series, its study and its patient.
     */
    const struct pacs_data_set *attributes;
} pacs_routing;

/**
 * Functions of the caller that take part in what an engine does, on whatever thread that happens: they may be called
 * by several threads at once. Each may be null. What they are given is valid during the call.
 *
 * Those that decide answer `PACS_OK`, or why not: it is what the peer is answered, with the text that they put into
 * `reason` (room for `PACS_REASON_LENGTH` bytes; it must hold no patient data). They should answer quickly. Calls that
 * change an engine or stop a server are answered with `PACS_REFUSED` in them, others may be made.
 */
typedef struct pacs_hooks {
    /**
     * `sizeof(pacs_hooks)`.
     */
    size_t struct_size;
    /**
     * Given to every hook.
     */
    void *user;
    /**
     * Called with `user` when no hook is called any more, once, also when the engine could not be opened, but not when
     * the context was none or `struct_size` wrong. May be null.
     */
    void (*destroy)(void *user);
    /**
     * Whether an association is accepted by a server of this engine. `PACS_OUT_OF_RESOURCES` rejects it for now, every
     * other failure for good.
     */
    int32_t (*associate)(void *user, const struct pacs_associating *associating);
    /**
     * Whether an instance is kept, and with which changes. Where there is one, the beginning of each instance is held
     * in memory until it has answered.
     */
    int32_t (*before_store)(void *user, const struct pacs_arriving *arriving, char *reason);
    /**
     * Whether a query is asked, and of which part of what is kept.
     */
    int32_t (*before_find)(void *user, const struct pacs_asking *asking, char *reason);
    /**
     * Whether an instance is handed out.
     */
    int32_t (*before_retrieve)(void *user, const struct pacs_retrieving *retrieving, char *reason);
    /**
     * Told what happened, one event after the other. The engine waits for it, so it should hand over and return.
     */
    void (*happened)(void *user, const struct pacs_event *event);
    /**
     * Where an instance goes that was stored and is new, or other than before: writes AE titles into `destinations`, a row
     * each, and answers how many; there is room for `PACS_ROUTES_MAX`. It only decides: `happened` is told of each
     * destination once, and whoever sends acts on that. It is not asked when an instance is amended. The engine waits for it, so it should answer at once.
     */
    uint32_t (*route)(void *user,
                      const struct pacs_routing *routing,
                      char (*destinations)[PACS_AE_TITLE_LENGTH]);
} pacs_hooks;

/**
 * What the caller brings to an engine. All zero but the first: nothing.
 */
typedef struct pacs_parts {
    /**
     * `sizeof(pacs_parts)`.
     */
    size_t struct_size;
    /**
     * Takes part in what the engine does; may be null.
     */
    const struct pacs_hooks *hooks;
} pacs_parts;

/**
 * What a rebuild did.
 */
typedef struct pacs_rebuilt {
    /**
     * `sizeof(pacs_rebuilt)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Instances that the new index knows.
     */
    uint64_t instances;
    /**
     * Instances that the archive keeps and that can't be read.
     */
    uint64_t unreadable;
    /**
     * Instances that the old index knew and the archive does not give any more. Where there are some, the old index is
     * kept beside the new one.
     */
    uint64_t missing;
    /**
     * 1 when the old index could be read to its end, or there was none; 0 when more may be missing.
     */
    uint32_t compared;
    /**
     * Zero.
     */
    uint32_t reserved;
} pacs_rebuilt;

/**
 * Takes a line of the log: its level (1 errors to 5 everything), the part of the library it comes from, and its
 * text with what belongs to it as `name=value`. UTF-8, valid during the call. It holds no patient data.
 *
 * Called from any thread, also by several at once, and must not block or call the library. The engines of all
 * contexts of a process write one log: each context that wants lines gets all.
 */
typedef void (*pacs_log)(void *user, uint32_t level, const char *target, const char *text);

/**
 * How a context works. Zero is the default of every field but the first.
 */
typedef struct pacs_context_options {
    /**
     * `sizeof(pacs_context_options)`.
     */
    size_t struct_size;
    /**
     * Threads of the pool that servers and network calls run on; 0 for one for each processor. It is started with
     * the first of them. Engines have a few threads of their own.
     */
    uint32_t threads;
    /**
     * Not 0: no pool; servers and network calls go on only while a thread of the caller is in `pacs_poll` or in a call
     * that waits. In a callback of such a call, network calls are answered with `PACS_REFUSED`.
     */
    uint32_t polled;
    /**
     * Called with each line of the log; null for none. See `pacs_log`.
     */
    pacs_log log;
    /**
     * Lines of this level and the more severe ones: 1 errors, 2 warnings, 3 what happens, 4 details, 5 everything;
     * 0 for 3.
     */
    uint32_t log_level;
    /**
     * Given to `log`.
     */
    void *log_user;
    /**
     * Called with `log_user` when it isn't needed any more, once, also when the context could not be made, but not when
     * `struct_size` was wrong. May be null.
     */
    void (*log_destroy)(void*);
} pacs_context_options;

/**
 * What an instance is once it is de-identified.
 */
typedef struct pacs_deidentified {
    /**
     * `sizeof(pacs_deidentified)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Study Instance UID.
     */
    char study[PACS_UID_LENGTH];
    /**
     * Series Instance UID.
     */
    char series[PACS_UID_LENGTH];
    /**
     * SOP Instance UID.
     */
    char instance[PACS_UID_LENGTH];
    /**
     * SOP Class UID.
     */
    char sop_class[PACS_UID_LENGTH];
    /**
     * Transfer Syntax UID: that which is stored, or Explicit VR Little Endian.
     */
    char transfer_syntax[PACS_UID_LENGTH];
    /**
     * The patient's pseudonym, which is the Patient ID and the Patient's Name; empty where there is no Patient ID.
     */
    char patient[PACS_PSEUDONYM_LENGTH];
} pacs_deidentified;

/**
 * How much is kept.
 */
typedef struct pacs_totals {
    /**
     * `sizeof(pacs_totals)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Distinct patients.
     */
    uint64_t patients;
    /**
     * Studies.
     */
    uint64_t studies;
    /**
     * Series.
     */
    uint64_t series;
    /**
     * Instances, without earlier versions.
     */
    uint64_t instances;
    /**
     * Bytes of their files.
     */
    uint64_t bytes;
} pacs_totals;

/**
 * Called now and then with how many instances are done. Another answer than 0 ends the call with
 * `PACS_CANCELLED`. On the thread of the call; it may call the library.
 */
typedef int32_t (*pacs_progress)(void *user, uint64_t done);

/**
 * What a verification tells.
 */
typedef struct pacs_verification {
    /**
     * `sizeof(pacs_verification)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Given to the callbacks; set by the caller.
     */
    void *user;
    /**
     * May be null; set by the caller.
     */
    pacs_progress progress;
    /**
     * Called at the end for each damaged instance; may be null; set by the caller.
     */
    pacs_damaged damaged;
} pacs_verification;

/**
 * Why the last call failed that did.
 */
typedef struct pacs_error {
    /**
     * `sizeof(pacs_error)`, set by the caller.
     */
    size_t struct_size;
    /**
     * What the call returned.
     */
    enum pacs_status status;
    /**
     * 1 when the same call may succeed later, 0 when it will fail the same way.
     */
    int32_t retry;
    /**
     * The status that answers a C-STORE which failed this way (PS3.4 B.2.3); 0 where the failure is none of the
     * engine's.
     */
    uint16_t dimse_status;
    /**
     * During which operation, as `noun.verb`.
     */
    char operation[PACS_OPERATION_LENGTH];
    /**
     * Why, in UTF-8, cut to fit. It holds no patient data.
     */
    char text[PACS_ERROR_TEXT_LENGTH];
} pacs_error;

/**
 * What decoded pixels are (PS3.3 C.7.6.3.1).
 */
typedef struct pacs_pixels {
    /**
     * `sizeof(pacs_pixels)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Bytes of the frame: rows, one behind the other, without padding, little endian.
     */
    uint64_t length;
    /**
     * Rows (0028,0010).
     */
    uint16_t rows;
    /**
     * Columns (0028,0011).
     */
    uint16_t columns;
    /**
     * Samples per Pixel (0028,0002).
     */
    uint16_t samples_per_pixel;
    /**
     * Bits Allocated (0028,0100).
     */
    uint16_t bits_allocated;
    /**
     * Bits Stored (0028,0101).
     */
    uint16_t bits_stored;
    /**
     * High Bit (0028,0102).
     */
    uint16_t high_bit;
    /**
     * Pixel Representation (0028,0103): 1 for signed.
     */
    uint16_t pixel_representation;
    /**
     * Planar Configuration (0028,0006): 0 for the samples of a pixel together.
     */
    uint16_t planar_configuration;
    /**
     * Photometric Interpretation (0028,0004), of what came out.
     */
    char photometric_interpretation[PACS_PHOTOMETRIC_LENGTH];
} pacs_pixels;

/**
 * What picture is asked for. Zero is the default of every field but the first.
 */
typedef struct pacs_picture {
    /**
     * `sizeof(pacs_picture)`.
     */
    size_t struct_size;
    /**
     * The frame, from 1; 0 for the one that stands for all.
     */
    uint32_t frame;
    /**
     * A `pacs_picture_format`.
     */
    int32_t format;
    /**
     * Quality of JPEG, 1 to 100; 0 for 90.
     */
    uint32_t quality;
    /**
     * Width that the picture is to fit into; 0 with `height` 0 for the frame's own size.
     */
    uint32_t width;
    /**
     * Height that the picture is to fit into.
     */
    uint32_t height;
    /**
     * Window centre and width, and after a further comma `linear`, `linear-exact` or `sigmoid` (PS3.18 8.3.5.1.4), as
     * in `"40,400,linear"`; null for the instance's own.
     */
    const char *window;
} pacs_picture;

/**
 * What is known of an instance.
 */
typedef struct pacs_instance_info {
    /**
     * `sizeof(pacs_instance_info)`, set by the caller.
     */
    size_t struct_size;
    /**
     * Study Instance UID.
     */
    char study[PACS_UID_LENGTH];
    /**
     * Series Instance UID.
     */
    char series[PACS_UID_LENGTH];
    /**
     * SOP Instance UID.
     */
    char instance[PACS_UID_LENGTH];
    /**
     * SOP Class UID.
     */
    char sop_class[PACS_UID_LENGTH];
    /**
     * Transfer Syntax UID, as it is stored.
     */
    char transfer_syntax[PACS_UID_LENGTH];
    /**
     * Bytes of the stored file.
     */
    uint64_t length;
    /**
     * Where in it the data set begins.
     */
    uint64_t data_set_offset;
    /**
     * When it was stored, in milliseconds since 1970-01-01 UTC.
     */
    uint64_t received;
    /**
     * Earlier versions that are kept.
     */
    uint64_t earlier_versions;
} pacs_instance_info;

/**
 * Takes the next bytes of what is read; they are valid during the call. Another answer than 0 ends the reading with
 * `PACS_CANCELLED`. On the thread of the call; it may call the library.
 */
typedef int32_t (*pacs_sink)(void *user, const void *bytes, size_t length);

/**
 * A peer application entity.
 */
typedef struct pacs_remote {
    /**
     * `sizeof(pacs_remote)`.
     */
    size_t struct_size;
    /**
     * Its host name or address.
     */
    const char *host;
    /**
     * Its AE title.
     */
    const char *called_ae;
    /**
     * What we are called.
     */
    const char *calling_ae;
    /**
     * Its TCP port.
     */
    uint16_t port;
    /**
     * Zero.
     */
    uint16_t reserved[3];
} pacs_remote;

/**
 * How far a transfer has come, and at its end what came of it.
 */
typedef struct pacs_counts {
    /**
     * `sizeof(pacs_counts)`, set by the caller where it gets one as a result.
     */
    size_t struct_size;
    /**
     * Instances that were transferred.
     */
    uint64_t completed;
    /**
     * Instances that were not.
     */
    uint64_t failed;
    /**
     * Instances that were, with a warning.
     */
    uint64_t warnings;
    /**
     * Instances that are still to come, as far as it is known.
     */
    uint64_t remaining;
    /**
     * The last status of the peer (PS3.7 annex C); 0 is success.
     */
    uint16_t dimse_status;
    /**
     * Zero.
     */
    uint16_t reserved[3];
} pacs_counts;

/**
 * Told how far a transfer has come. Another answer than 0 cancels it. On the thread of the call.
 */
typedef int32_t (*pacs_counting)(void *user, const struct pacs_counts *counts);

/**
 * How a call to a peer goes on. Zero is the default of every field but the first.
 */
typedef struct pacs_operation {
    /**
     * `sizeof(pacs_operation)`.
     */
    size_t struct_size;
    /**
     * The whole call ends after so many milliseconds with `PACS_TIMED_OUT`; 0 for no such limit. Whatever this is, a
     * connection that doesn't come about ends it after 10 s, and a silent peer after some minutes.
     */
    uint32_t timeout_milliseconds;
    /**
     * May be null.
     */
    const struct pacs_cancel *cancel;
    /**
     * Told how far it has come; may be null.
     */
    pacs_counting counting;
    /**
     * Given to `counting`.
     */
    void *user;
} pacs_operation;

/**
 * Takes a match, which is valid during the call. Another answer than 0 cancels the query. On the thread of the call.
 */
typedef int32_t (*pacs_matched)(void *user, const struct pacs_data_set *found);

/**
 * An instance that was stored.
 */
typedef struct pacs_stored {
    /**
     * `sizeof(pacs_stored)`, set by the caller.
     */
    size_t struct_size;
    /**
     * What it was to the engine.
     */
    enum pacs_outcome outcome;
    /**
     * The warning that its sender is to be answered with (PS3.4 B.2.3), 0 for none.
     */
    uint16_t warning;
    /**
     * Study Instance UID.
     */
    char study[PACS_UID_LENGTH];
    /**
     * Series Instance UID.
     */
    char series[PACS_UID_LENGTH];
    /**
     * SOP Instance UID.
     */
    char instance[PACS_UID_LENGTH];
} pacs_stored;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Corrects attributes of everything that is kept of a patient, a study or a series, or of one instance: what is in
 * `wanted`, with or without a value, takes the place of what they have. Queries find the new values and not the old
 * ones; the instances leave with them, and with what they had before in Original Attributes Sequence (0400,0561;
 * reason CORRECT). The stored bytes never change: each amended instance is kept once more, and its earlier version
 * stays. The UIDs that say which instance it is, Specific Character Set, what describes the pixels, and private
 * attributes can't be amended; what is searched of patient and study is amended for a whole study at least, and what is
 * searched of a series for all of it.
 *
 * It returns `PACS_OK` also when some of the instances, or all, could not be amended: look at `amended->failed`. So it is
 * with an instance in a deflated transfer syntax, and with a value that the instance's character set can't say; one in
 * plain ASCII leaves in UTF-8 then. A patient whose studies are amended one by one is known by what was amended last.
 * What was amended goes nowhere by itself: send it again when `PACS_EVENT_AMENDED` tells.
 *
 * `source`, which may be null, is who amends: its called AE title stands as Modifying System (0400,0563); `level` is a `pacs_level` other than `PACS_LEVEL_ALL`. `failed`, which
 * may be null, is called with `user` at the end for the first thousand instances that could not be amended, and why:
 * one that can't costs no other.
 *
 * Blocks: every instance is amended durably, each for itself. Where it is broken off, some are and some are not, and
 * the same call again does the rest. Errors: `PACS_INVALID` when nothing is wanted, something that can't be amended, a
 * value that the attribute can't have (PS3.5 6.2), or no Patient ID; `PACS_NOT_FOUND` when nothing of it is kept; what the archive or the index says; `PACS_REFUSED` in a hook.
 */
enum pacs_status pacs_engine_amend(struct pacs_engine *engine,
                                   const struct pacs_source *source,
                                   int32_t level,
                                   const char *id,
                                   const struct pacs_data_set *wanted,
                                   pacs_damaged failed,
                                   void *user,
                                   struct pacs_amended *amended);

/**
 * Makes one patient of two, as when it turns out that both are one person: everything that is kept under the Patient
 * ID `prior` is amended to all that is searched of the patient `surviving` (Patient ID, name, birth date, sex, other
 * IDs and the like), as `pacs_engine_amend` does it. What of that is known of the prior one only, it loses. A call that
 * was broken off is finished by the same call again, also when no patient `prior` is left; one that was finished
 * changes nothing.
 *
 * Blocks. Errors: `PACS_NOT_FOUND` when nothing of one of the two is kept, and never was amended from the one to the
 * other; `PACS_INVALID` when they are the same;
 * otherwise as `pacs_engine_amend`.
 */
enum pacs_status pacs_engine_merge_patients(struct pacs_engine *engine,
                                            const struct pacs_source *source,
                                            const char *prior,
                                            const char *surviving,
                                            pacs_damaged failed,
                                            void *user,
                                            struct pacs_amended *amended);

/**
 * Opens a store on an archive of the caller's own. To be closed with `pacs_engine_close`. `parts` may be null.
 *
 * `configuration` is that of `pacs_engine_open`, with another meaning of `archive`: `"memory"` has the index in memory,
 * where each opening fills it with all that is kept; otherwise it is made in the data directory, which no archive of
 * the library may have too.
 *
 * `archive` is read before this returns; its `user` is the library's from then on, and `destroy` is called once, also
 * when the opening fails. Where `archive` is null, or its `struct_size` ends before `version`, nothing is taken over.
 *
 * Blocks: as `pacs_engine_open`. Errors: also `PACS_BAD_ARGUMENT` for an archive that lacks a function, is of another
 * version or of a size that isn't known here; what the archive says.
 */
enum pacs_status pacs_engine_open_on(struct pacs_context *context,
                                     const char *configuration,
                                     const struct pacs_archive *archive,
                                     const struct pacs_parts *parts,
                                     struct pacs_engine **engine);

/**
 * Makes the index of a store on an archive of the caller's own anew. For a store that is not open; otherwise as
 * `pacs_rebuild_index`, with the `archive` of `pacs_engine_open_on`, which is taken over here too.
 *
 * Blocks as long as it takes to read everything. Errors: as `pacs_engine_open_on`.
 */
enum pacs_status pacs_rebuild_index_on(struct pacs_context *context,
                                       const char *configuration,
                                       const struct pacs_archive *archive,
                                       struct pacs_rebuilt *rebuilt);

/**
 * Makes a context. `options` may be null. To be freed with `pacs_context_free`.
 *
 * A process may have several; they share nothing but what `pacs_log` says.
 *
 * Does not block. Errors: `PACS_BAD_ARGUMENT`.
 */
enum pacs_status pacs_context_new(const struct pacs_context_options *options, struct pacs_context **context);

/**
 * Frees a context; null is nothing to do.
 *
 * Does not block. Errors: `PACS_REFUSED` while handles of it are open; it stays open then.
 */
enum pacs_status pacs_context_free(struct pacs_context *context);

/**
 * Lets servers and network calls of a context that was made with `polled` go on, on this thread, for
 * `timeout_milliseconds`; with 0 once over what is ready.
 *
 * Blocks that long. From one thread at a time. Errors: `PACS_UNSUPPORTED` when the context has a pool,
 * `PACS_REFUSED` inside a callback of the same context.
 */
enum pacs_status pacs_poll(struct pacs_context *context, uint32_t timeout_milliseconds);

/**
 * The tag of an attribute, as `0xggggeeee`, by its keyword (`PatientName`) or as text (`00100010`, `(0010,0010)`).
 *
 * Does not block. Errors: `PACS_NOT_FOUND` when the dictionary has no such keyword.
 */
enum pacs_status pacs_tag(const char *name,
                          uint32_t *tag);

/**
 * Makes an empty data set. To be freed with `pacs_data_set_free`.
 *
 * Does not block.
 */
enum pacs_status pacs_data_set_new(struct pacs_context *context, struct pacs_data_set **set);

/**
 * Makes a data set from one object of the DICOM JSON Model (PS3.18 annex F). To be freed with
 * `pacs_data_set_free`.
 *
 * Does not block. Errors: `PACS_INVALID`; `PACS_UNSUPPORTED` when it names bulk data.
 */
enum pacs_status pacs_data_set_from_json(struct pacs_context *context,
                                         const char *json,
                                         struct pacs_data_set **set);

/**
 * Frees a data set; null is nothing to do.
 */
enum pacs_status pacs_data_set_free(struct pacs_data_set *set);

/**
 * Puts an attribute, in place of one that is there. `text` has several values with `\` between them, numbers in
 * decimal; empty or null for an attribute without a value, as a return key of a query is. `vr` is two letters, or
 * null for what the Standard gives the attribute (UN where it doesn't know it).
 *
 * Does not block. Errors: `PACS_INVALID` when the text is nothing that the VR can hold.
 */
enum pacs_status pacs_data_set_put(struct pacs_data_set *set,
                                   uint32_t tag,
                                   const char *vr,
                                   const char *text);

/**
 * Puts an attribute with these bytes as its value, little endian.
 *
 * Does not block. Errors: `PACS_INVALID` for a sequence.
 */
enum pacs_status pacs_data_set_put_bytes(struct pacs_data_set *set,
                                         uint32_t tag,
                                         const char *vr,
                                         const void *bytes,
                                         size_t length);

/**
 * Adds an item to a sequence, which is made where it isn't there: a copy of `item`.
 *
 * Does not block. Errors: `PACS_INVALID` when the attribute is there and no sequence, or sequences are nested too deep.
 */
enum pacs_status pacs_data_set_add_item(struct pacs_data_set *set,
                                        uint32_t tag,
                                        const struct pacs_data_set *item);

/**
 * Takes an attribute away; it may be missing.
 *
 * Does not block.
 */
enum pacs_status pacs_data_set_remove(struct pacs_data_set *set, uint32_t tag);

/**
 * How many attributes a data set has at its top level.
 *
 * Does not block.
 */
enum pacs_status pacs_data_set_size(const struct pacs_data_set *set, size_t *size);

/**
 * The tag and the VR of the attribute at `position`, from 0, in ascending order of tags. `vr` is room for 3 bytes, or
 * null.
 *
 * Does not block. Errors: `PACS_END` behind the last one.
 */
enum pacs_status pacs_data_set_at(const struct pacs_data_set *set,
                                  size_t position,
                                  uint32_t *tag,
                                  char *vr);

/**
 * How many values an attribute has, or items where it is a sequence. An attribute without a value has 0.
 *
 * Does not block. Errors: `PACS_NOT_FOUND` when the attribute is missing.
 */
enum pacs_status pacs_data_set_count(const struct pacs_data_set *set, uint32_t tag, size_t *count);

/**
 * A value of an attribute as text in UTF-8, with NUL behind it. `index` counts from 0. `length` becomes its length
 * without the NUL, also when it doesn't fit; it may be null, and so may `buffer` where `capacity` is 0.
 *
 * Does not block. Errors: `PACS_NOT_FOUND` when there is no such value, `PACS_BUFFER_TOO_SMALL`.
 */
enum pacs_status pacs_data_set_text(const struct pacs_data_set *set,
                                    uint32_t tag,
                                    size_t index,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *length);

/**
 * A value of an attribute as a whole number: of IS, US, SS, UL, SL, UV, SV, AT, and of DS where it is one.
 *
 * Does not block. Errors: `PACS_NOT_FOUND` when there is no such value, `PACS_INVALID` when it is no number, not whole
 * or too large.
 */
enum pacs_status pacs_data_set_integer(const struct pacs_data_set *set,
                                       uint32_t tag,
                                       size_t index,
                                       int64_t *number);

/**
 * A value of an attribute as a number: of DS, FL, FD and of what `pacs_data_set_integer` takes.
 *
 * Does not block. Errors: `PACS_NOT_FOUND` when there is no such value, `PACS_INVALID` when it is no number.
 */
enum pacs_status pacs_data_set_double(const struct pacs_data_set *set,
                                      uint32_t tag,
                                      size_t index,
                                      double *number);

/**
 * The bytes of an attribute's value, all values together, little endian; text as UTF-8. `length` becomes how many
 * they are, also when they don't fit; it may be null, and so may `buffer` where `capacity` is 0.
 *
 * Does not block. Errors: `PACS_NOT_FOUND`, `PACS_BUFFER_TOO_SMALL`, `PACS_INVALID` for a sequence.
 */
enum pacs_status pacs_data_set_bytes(const struct pacs_data_set *set,
                                     uint32_t tag,
                                     void *buffer,
                                     size_t capacity,
                                     size_t *length);

/**
 * An item of a sequence, as a data set of its own. `index` counts from 0. To be freed with `pacs_data_set_free`.
 *
 * Does not block. Errors: `PACS_NOT_FOUND` when there is no such item.
 */
enum pacs_status pacs_data_set_item(const struct pacs_data_set *set,
                                    uint32_t tag,
                                    size_t index,
                                    struct pacs_data_set **item);

/**
 * The data set in the DICOM JSON Model (PS3.18 annex F), UTF-8 with NUL behind it. `length` as for
 * `pacs_data_set_text`.
 *
 * Does not block. Errors: `PACS_BUFFER_TOO_SMALL`.
 */
enum pacs_status pacs_data_set_json(const struct pacs_data_set *set,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *length);

/**
 * Makes what de-identifies. To be freed with `pacs_deidentifier_free`.
 *
 * `settings` is TOML:
 *
 * ```toml
 * project = "a study"               # the same patient has another pseudonym in another project
 * secret = "at least 16 bytes"      # who has it can try out which patient a pseudonym stands for
 *
 * [profile]                         # the options of PS3.15 E.3; all of it may be left out
 * dates = "remove"                  # or "shift", by as many days for all of a patient; or "keep"
 * burned-in = "refuse"              # an image that may have names in its pixels; or "keep"
 * retain-patient-characteristics = false
 * clean-descriptors = false
 * ```
 *
 * Does not block. Errors: `PACS_INVALID` for the settings, with the line; the secret is not shown.
 */
enum pacs_status pacs_deidentifier_new(struct pacs_context *context,
                                       const char *settings,
                                       struct pacs_deidentifier **deidentifier);

/**
 * Frees what de-identifies; null is nothing to do. Readers that it was used for go on.
 */
enum pacs_status pacs_deidentifier_free(struct pacs_deidentifier *deidentifier);

/**
 * Opens an instance for reading, de-identified. The stored bytes stay as they are. `form` is `PACS_FORM_FILE` or
 * `PACS_FORM_DATA_SET`. `source`, which may be null, is who asks. `deidentified`, which may be null, becomes what comes
 * out. The reader is to be freed with `pacs_reader_free`.
 *
 * Blocks: what stands before the pixel data is read now. What can be known to fail fails now and not in the reader. Errors:
 * `PACS_REFUSED` when the profile refuses the instance, as one that may have names in its pixels; `PACS_MISMATCH` when
 * its attributes can't be followed to their end; `PACS_OUT_OF_RESOURCES` when they are too long; `PACS_UNSUPPORTED`
 * when its pixels can't be decoded or blanked; what a hook or the archive says.
 */
enum pacs_status pacs_instance_deidentify(const struct pacs_instance *instance,
                                          const struct pacs_source *source,
                                          const struct pacs_deidentifier *deidentifier,
                                          int32_t form,
                                          struct pacs_deidentified *deidentified,
                                          struct pacs_reader **reader);

/**
 * Opens a store, and makes it where there is none. To be closed with `pacs_engine_close`. `parts` may be null.
 *
 * `configuration` is TOML, null for all defaults:
 *
 * ```toml
 * data = "./pacs-data"          # the data directory; one process at a time
 * archive = "segment"           # one behind the other in large files; "folder": a file each; "memory": gone with the process
 * duplicates = "replace"        # other bytes under a UID that is kept; the old ones stay as an earlier version. Or "keep-first", "refuse"
 * index-cache-mebibytes = 128
 *
 * [access]                      # who may do what, where a call or a peer of a server says who asks
 * anyone = []                   # what everybody may: store, find, retrieve, delete, amend, work, route, administer
 * [[access.role]]
 * name = "reader"
 * allow = ["find", "retrieve"]
 * only = { Modality = ["US"] }  # of what part; left out: of all
 * [[access.peer]]               # known by ae-title, addresses, certificate: all that is named
 * ae-title = "WORKSTATION"
 * roles = ["reader"]
 *
 * [[attribute]]                 # what is searched beyond the Standard's query models
 * level = "series"              # patient, study, series or instance
 * path = "ProtocolName"
 * ```
 *
 * Blocks: after a crash for as long as the index needs to come up to the archive. Errors: `PACS_INVALID` for the
 * configuration, with the line; `PACS_REFUSED` when another process, or this one, has the store open;
 * `PACS_MISMATCH` when its archive is of another kind; `PACS_CORRUPT` when the index is damaged: see
 * `pacs_rebuild_index`; `PACS_IO`, `PACS_OUT_OF_RESOURCES`.
 */
enum pacs_status pacs_engine_open(struct pacs_context *context,
                                  const char *configuration,
                                  const struct pacs_parts *parts,
                                  struct pacs_engine **engine);

/**
 * Finishes what was accepted, makes the index durable and ends the handle; null is nothing to do. What was got from
 * the engine stays open, must be freed, and answers `PACS_CLOSED` where it would have to change something; until then
 * the store can't be opened again. Servers are stopped before.
 *
 * Blocks. Errors: what the archive or the index says of the last flush; the handle is ended all the same, and what
 * was acknowledged is kept. `PACS_REFUSED` in a hook; the handle stays open then.
 */
enum pacs_status pacs_engine_close(struct pacs_engine *engine);

/**
 * How much is kept.
 *
 * Blocks shortly. Errors: what the index says.
 */
enum pacs_status pacs_engine_totals(const struct pacs_engine *engine, struct pacs_totals *totals);

/**
 * Removes a patient, a study, a series or an instance, in all versions. `removed`, which may be null, becomes the
 * number of instances that were: 0 when there was none. `level` is a `pacs_level` other than `PACS_LEVEL_ALL`.
 *
 * Blocks: every instance is removed durably. When it fails, `removed` of them are gone all the same.
 * Errors: what the archive or the index says; `PACS_REFUSED` in a hook.
 */
enum pacs_status pacs_engine_remove(struct pacs_engine *engine,
                                    int32_t level,
                                    const char *id,
                                    uint64_t *removed);

/**
 * Makes the index durable up to now, so that the next opening has nothing to repeat. No instance depends on it.
 *
 * Blocks. Errors: what the archive or the index says.
 */
enum pacs_status pacs_engine_checkpoint(struct pacs_engine *engine);

/**
 * Compares everything that is kept with the checksums made when it was stored, and the archive with the index.
 * `whole` and `damaged` become how many instances, earlier versions among them, are whole and how many are not.
 * `verification` may be null, and so may `damaged`.
 *
 * Blocks as long as it takes to read everything; the engine serves meanwhile. Damage is no error but a finding.
 * Errors: what the index says, `PACS_CANCELLED`.
 */
enum pacs_status pacs_engine_verify(struct pacs_engine *engine,
                                    const struct pacs_verification *verification,
                                    uint64_t *whole,
                                    uint64_t *damaged);

/**
 * Makes the index of a store anew from its archive alone. For a store that is not open; `configuration` is that of
 * `pacs_engine_open`. `rebuilt` may be null. That something is missing is no error but a finding.
 *
 * Blocks as long as it takes to read everything. Errors: as `pacs_engine_open`; `PACS_NOT_FOUND` when there is no
 * store.
 */
enum pacs_status pacs_rebuild_index(struct pacs_context *context,
                                    const char *configuration,
                                    struct pacs_rebuilt *rebuilt);

/**
 * Why the last call of this thread in this context failed that did; `PACS_END` when none has. A success changes
 * nothing of it, and neither does this call.
 *
 * Every thread has its own: threads that share a context don't see each other's. The failure of a call that was
 * given no valid handle belongs to no context; only its status tells of it.
 *
 * Does not block.
 */
enum pacs_status pacs_last_error(const struct pacs_context *context,
                                 struct pacs_error *error);

/**
 * A few words for a status, for ever valid; those for `PACS_INTERNAL` when there is no such status.
 */
const char *pacs_status_text(int32_t status);

/**
 * Handles that are open in a context, the context's own not counted: 0 when nothing leaks.
 *
 * Does not block.
 */
enum pacs_status pacs_live_handles(const struct pacs_context *context, uint64_t *count);

/**
 * Finds the patients, studies, series or instances that match (PS3.4 C.2.2.2, Patient Root, relational). `keys` has
 * matching keys, with a value, and return keys, without one; a match has the keys that were asked for. `flags` are
 * `PACS_FIND_...`, added up. `source`, which may be null, is who asks. To be freed with `pacs_matches_free`.
 *
 * Does not block. Errors: `PACS_INVALID` for a key that can't mean anything, what a hook says.
 */
enum pacs_status pacs_find(const struct pacs_engine *engine,
                           const struct pacs_source *source,
                           int32_t level,
                           const struct pacs_data_set *keys,
                           uint32_t flags,
                           struct pacs_matches **matches);

/**
 * The next match, to be freed with `pacs_data_set_free`.
 *
 * Blocks until there is one. Errors: `PACS_END` behind the last one; what the index says, after which there is no
 * more.
 */
enum pacs_status pacs_matches_next(struct pacs_matches *matches,
                                   struct pacs_data_set **found);

/**
 * Frees an iterator, at its end or before; null is nothing to do.
 */
enum pacs_status pacs_matches_free(struct pacs_matches *matches);

/**
 * Opens an instance for the reading of frames. `source`, which may be null, is who asks. `count`, which may be null,
 * becomes the number of frames; of a video it is 1, the whole stream. To be freed with `pacs_frames_free`.
 *
 * Blocks shortly: nothing of the pixel data is read. Errors: `PACS_NOT_FOUND` when the instance has no pixel data,
 * `PACS_INVALID` or `PACS_MISMATCH` when its header doesn't say what the pixels are, what a hook says.
 */
enum pacs_status pacs_frames_open(const struct pacs_instance *instance,
                                  const struct pacs_source *source,
                                  struct pacs_frames **frames,
                                  uint32_t *count);

/**
 * Frees a frame reader; null is nothing to do.
 */
enum pacs_status pacs_frames_free(struct pacs_frames *frames);

/**
 * A frame as it is stored: of a compressed instance the bytes of its fragments, joined; of another one its cells,
 * little endian. `number` counts from 1. The reader is to be freed with `pacs_reader_free`.
 *
 * Blocks: where it isn't known yet where the frames lie, the instance is read once. Errors: `PACS_NOT_FOUND` when
 * there is no such frame, `PACS_MISMATCH` when frames can't be told apart, what the archive says.
 */
enum pacs_status pacs_frames_read(const struct pacs_frames *frames,
                                  uint32_t number,
                                  struct pacs_reader **reader);

/**
 * The pixels of a frame, decoded. `number` counts from 1. The reader is to be freed with `pacs_reader_free`; until
 * then its bytes count among those that one engine hands out at once.
 *
 * Blocks. Errors: as `pacs_frames_read`; `PACS_UNSUPPORTED` when the transfer syntax is not decoded here,
 * `PACS_MISMATCH` when the frame is damaged, `PACS_OUT_OF_RESOURCES` when too many decoded frames are held.
 */
enum pacs_status pacs_frames_decode(const struct pacs_frames *frames,
                                    uint32_t number,
                                    struct pacs_pixels *pixels,
                                    struct pacs_reader **reader);

/**
 * Draws a frame as a picture, as a viewer shows it. `picture` and `source` may be null. The reader is to be freed with
 * `pacs_reader_free`.
 *
 * Blocks. Errors: as `pacs_frames_open` and `pacs_frames_decode`; `PACS_INVALID` for a window or a size that can't be.
 */
enum pacs_status pacs_instance_render(const struct pacs_instance *instance,
                                      const struct pacs_source *source,
                                      const struct pacs_picture *picture,
                                      struct pacs_reader **reader);

/**
 * Looks up an instance. To be freed with `pacs_instance_free`.
 *
 * Blocks shortly. Errors: `PACS_NOT_FOUND`; what the index says.
 */
enum pacs_status pacs_lookup(const struct pacs_engine *engine,
                             const char *sop_instance_uid,
                             struct pacs_instance **instance);

/**
 * Frees an instance's handle; null is nothing to do. The instance stays.
 */
enum pacs_status pacs_instance_free(struct pacs_instance *instance);

/**
 * What is known of an instance.
 *
 * Does not block.
 */
enum pacs_status pacs_instance_get_info(const struct pacs_instance *instance,
                                        struct pacs_instance_info *info);

/**
 * All attributes of an instance but its bulk data, as it leaves: what was coerced is in place of what came. `source`,
 * which may be null, is who asks. To be freed with `pacs_data_set_free`.
 *
 * Blocks. Errors: what a hook or the archive says.
 */
enum pacs_status pacs_instance_header(const struct pacs_instance *instance,
                                      const struct pacs_source *source,
                                      struct pacs_data_set **header);

/**
 * Walks over everything that is kept, or over what is of one patient, study or series; the instances of one series
 * come together. `level` is a `pacs_level`, `id` what names the entity, null for `PACS_LEVEL_ALL`. To be freed with
 * `pacs_instances_free`. What is stored meanwhile may or may not be seen.
 *
 * Does not block.
 */
enum pacs_status pacs_walk(const struct pacs_engine *engine,
                           int32_t level,
                           const char *id,
                           struct pacs_instances **instances);

/**
 * The next instance, to be freed with `pacs_instance_free`.
 *
 * Blocks shortly. Errors: `PACS_END` behind the last one; what the index says, after which there is no more.
 */
enum pacs_status pacs_instances_next(struct pacs_instances *instances, struct pacs_instance **instance);

/**
 * Frees an iterator, at its end or before; null is nothing to do.
 */
enum pacs_status pacs_instances_free(struct pacs_instances *instances);

/**
 * Opens an instance for reading, from its first byte on. `form` is a `pacs_form`. `source`, which may be null, is who
 * asks. To be freed with `pacs_reader_free`.
 *
 * Does not block. Errors: what a hook says.
 */
enum pacs_status pacs_instance_open(const struct pacs_instance *instance,
                                    const struct pacs_source *source,
                                    int32_t form,
                                    struct pacs_reader **reader);

/**
 * Reads the next bytes: as many as fit, fewer at the end alone. `length` becomes how many they are.
 *
 * Blocks. Errors: `PACS_END` when nothing is left; `PACS_CORRUPT` when stored bytes are damaged; what the archive
 * says. After an error there is no more.
 */
enum pacs_status pacs_reader_read(struct pacs_reader *reader,
                                  void *buffer,
                                  size_t capacity,
                                  size_t *length);

/**
 * Frees a reader, at its end or before; null is nothing to do.
 */
enum pacs_status pacs_reader_free(struct pacs_reader *reader);

/**
 * Reads a whole instance into a callback. `form` and `source` as for `pacs_instance_open`.
 *
 * Blocks. Errors: as `pacs_instance_open` and `pacs_reader_read`, `PACS_CANCELLED`.
 */
enum pacs_status pacs_instance_read(const struct pacs_instance *instance,
                                    const struct pacs_source *source,
                                    int32_t form,
                                    pacs_sink sink,
                                    void *user);

/**
 * Reads a range of the stored file: from `offset`, as many bytes as fit or there are. `length` becomes how many they
 * are. An archive holds no checksum against a part of an instance, as a rule.
 *
 * Blocks. Errors: `PACS_END` when `offset` is at the end or behind it; what a hook or the archive says.
 */
enum pacs_status pacs_instance_read_range(const struct pacs_instance *instance,
                                          const struct pacs_source *source,
                                          uint64_t offset,
                                          void *buffer,
                                          size_t capacity,
                                          size_t *length);

/**
 * Makes a token with which calls can be ended from another thread. To be freed with `pacs_cancel_free`.
 *
 * Does not block.
 */
enum pacs_status pacs_cancel_new(struct pacs_context *context, struct pacs_cancel **cancel);

/**
 * Ends the calls that were given the token, now and later.
 *
 * Does not block: the calls end when their peers have answered, at the latest after ten seconds.
 */
enum pacs_status pacs_cancel_now(struct pacs_cancel *cancel);

/**
 * Frees a token; null is nothing to do. Calls that were given it go on.
 */
enum pacs_status pacs_cancel_free(struct pacs_cancel *cancel);

/**
 * Verification (PS3.4 annex A). `dimse_status`, which may be null, becomes what the peer answered; 0 is success.
 * `operation` may be null.
 *
 * Blocks. Errors: `PACS_IO` when the peer can't be reached, `PACS_REFUSED` when it rejects the association or answers
 * a failure, `PACS_TIMED_OUT`, `PACS_CANCELLED`.
 */
enum pacs_status pacs_remote_echo(struct pacs_context *context,
                                  const struct pacs_remote *remote,
                                  const struct pacs_operation *operation,
                                  uint16_t *dimse_status);

/**
 * Asks a peer (C-FIND, PS3.4 C.4.1). `model` is a `pacs_model`, `level` a `pacs_level`; `keys` has matching keys, with a
 * value, and return keys, without one. `matched` is called with each match, and given `user`. `operation` may be null.
 *
 * Blocks. Errors: as `pacs_remote_echo`.
 */
enum pacs_status pacs_remote_find(struct pacs_context *context,
                                  const struct pacs_remote *remote,
                                  const struct pacs_operation *operation,
                                  int32_t model,
                                  int32_t level,
                                  const struct pacs_data_set *keys,
                                  pacs_matched matched,
                                  void *user);

/**
 * Has a peer send what matches to a destination (C-MOVE, PS3.4 C.4.2). `model`, `level` and `keys` as for
 * `pacs_remote_find`; the keys name what is to be sent by its UIDs. `destination` is an AE title that the peer knows.
 * `result`, which may be null, becomes what came of it, also when the call fails with `PACS_REFUSED` or
 * `PACS_CANCELLED` by the peer's answer. `operation` may be null.
 *
 * Blocks. Errors: as `pacs_remote_echo`. Some instances that could not be sent are no error but stand in `result`.
 */
enum pacs_status pacs_remote_move(struct pacs_context *context,
                                  const struct pacs_remote *remote,
                                  const struct pacs_operation *operation,
                                  int32_t model,
                                  int32_t level,
                                  const struct pacs_data_set *keys,
                                  const char *destination,
                                  struct pacs_counts *result);

/**
 * Fetches what matches into an engine (C-GET, PS3.4 C.4.3); each instance that the peer is told to be stored is kept
 * as by `pacs_store`. `model`, `level` and `keys` as for `pacs_remote_move`, `result` as well. `operation` may be null.
 *
 * Blocks. Errors: as `pacs_remote_move`; `PACS_REFUSED` in a callback that the engine waits for.
 */
enum pacs_status pacs_remote_get(struct pacs_engine *engine,
                                 const struct pacs_remote *remote,
                                 const struct pacs_operation *operation,
                                 int32_t model,
                                 int32_t level,
                                 const struct pacs_data_set *keys,
                                 struct pacs_counts *result);

/**
 * Sends what an engine keeps to a peer (C-STORE, PS3.4 annex B): everything of a patient, a study or a series, or an
 * instance. `level` is a `pacs_level`, `id` what names the entity. Where the peer doesn't take a transfer syntax, the
 * instance is converted if it can be. `result`, which may be null, becomes what came of it. `operation` may be null.
 *
 * Blocks. Errors: `PACS_NOT_FOUND` when there is nothing to send; `PACS_IO` or `PACS_REFUSED` when nothing could be
 * sent, `PACS_TIMED_OUT`, `PACS_CANCELLED`. Some instances that could not be sent are no error but stand in `result`.
 */
enum pacs_status pacs_remote_send(const struct pacs_engine *engine,
                                  const struct pacs_remote *remote,
                                  const struct pacs_operation *operation,
                                  int32_t level,
                                  const char *id,
                                  struct pacs_counts *result);

/**
 * Sends a DICOM file to a peer (C-STORE), in the transfer syntax that it has. `path` is UTF-8. `dimse_status`, which
 * may be null, becomes what the peer answered, also when it is a failure. `operation` may be null.
 *
 * Blocks. Errors: as `pacs_remote_echo`; `PACS_NOT_FOUND` when there is no such file, `PACS_INVALID` when it is no DICOM
 * file that says what it holds, `PACS_UNSUPPORTED` for a DICOMDIR, and when the peer doesn't take its SOP class or
 * transfer syntax.
 */
enum pacs_status pacs_remote_store_file(struct pacs_context *context,
                                        const struct pacs_remote *remote,
                                        const struct pacs_operation *operation,
                                        const char *path,
                                        uint16_t *dimse_status);

/**
 * Starts a DICOM server on an engine: Verification, Storage, Query/Retrieve (FIND, MOVE, GET). To be stopped with
 * `pacs_server_stop`.
 *
 * `configuration` is TOML, null for all defaults:
 *
 * ```toml
 * ae-title = "PACS"             # what peers must call it
 * listen = "127.0.0.1"          # "0.0.0.0" serves every network
 * port = 11112                  # 0 lets the system choose: see pacs_server_port
 * associations = 1000           # at once
 * operations = 16               # that one association may have in flight
 * idle-seconds = 600            # that an association may be silent
 * patience-seconds = 30         # that an instance waits for its turn
 * any-sop-class = false         # true: also those that the Standard's dictionary doesn't know
 *
 * [tls]                         # without it nothing is encrypted; PEM files, read again when they change
 * certificate = "pacs.pem"
 * key = "pacs-key.pem"
 * authorities = "ca.pem"        # that the certificates of the other side must come from
 *
 * [[peer]]                      # a destination of C-MOVE
 * ae-title = "WORKSTATION"
 * host = "192.0.2.7"
 * port = 104
 * associations = 2
 * tls = false                   # true: it is called over TLS
 * ```
 *
 * Blocks shortly. Errors: `PACS_INVALID` for the configuration, with the line; `PACS_IO` when the address can't be
 * had.
 */
enum pacs_status pacs_dicom_start(struct pacs_engine *engine,
                                  const char *configuration,
                                  struct pacs_server **server);

/**
 * Starts an HTTP server on an engine: DICOMweb (PS3.18) below `/dicom-web`, WADO-URI at `/wado`, `/metrics`, `/healthz`
 * and `/readyz`. To be stopped with `pacs_server_stop`.
 *
 * `configuration` is TOML, null for all defaults:
 *
 * ```toml
 * listen = "127.0.0.1"          # "0.0.0.0" serves every network
 * port = 8080                   # 0 lets the system choose: see pacs_server_port
 * origin = "https://pacs.example"   # how clients reach it, where that is not what their Host field says
 * delete = false                # true: studies, series and instances may be deleted
 * cors-origins = []             # pages of these origins may use it
 * any-sop-class = false
 * spool = "/var/tmp"            # where bulk data waits that comes beside metadata
 *
 * [tls]                         # without it nothing is encrypted; PEM files, read again when they change
 * certificate = "pacs.pem"
 * key = "pacs-key.pem"
 * ```
 *
 * Blocks shortly. Errors: as `pacs_dicom_start`.
 */
enum pacs_status pacs_web_start(struct pacs_engine *engine,
                                const char *configuration,
                                struct pacs_server **server);

/**
 * The TCP port that a server listens on.
 *
 * Does not block.
 */
enum pacs_status pacs_server_port(const struct pacs_server *server, uint16_t *port);

/**
 * Stops a server and ends the handle; null is nothing to do. No new association or connection is accepted; what runs
 * may go on for `grace_milliseconds`, and is broken off then.
 *
 * Blocks until it has ended: no hook is called for it afterwards. Errors: `PACS_REFUSED` in a hook, and in a callback of
 * a polled context; the handle stays open then.
 */
enum pacs_status pacs_server_stop(struct pacs_server *server,
                                  uint32_t grace_milliseconds);

/**
 * Stores an instance from memory: a DICOM file (PS3.10), or a bare data set. When it returns `PACS_OK`, the instance
 * is on stable storage and a query finds it. `source` and `stored` may be null. The bytes are the caller's again
 * afterwards.
 *
 * Blocks. Errors: `PACS_INVALID` when it is no DICOM file or lacks the UIDs that say what it is, `PACS_UNSUPPORTED`
 * for a DICOMDIR, `PACS_ALREADY_EXISTS` by the policy, what a hook says, `PACS_OUT_OF_RESOURCES`, `PACS_IO`.
 */
enum pacs_status pacs_store(struct pacs_engine *engine,
                            const struct pacs_source *source,
                            const void *bytes,
                            size_t length,
                            struct pacs_stored *stored);

/**
 * Stores an instance from a file; otherwise as `pacs_store`. `path` is UTF-8.
 *
 * Blocks. Errors: as `pacs_store`; `PACS_NOT_FOUND` when there is no such file.
 */
enum pacs_status pacs_store_file(struct pacs_engine *engine,
                                 const struct pacs_source *source,
                                 const char *path,
                                 struct pacs_stored *stored);

/**
 * Stores an instance that was made in memory, as a file in Explicit VR Little Endian and UTF-8; otherwise as
 * `pacs_store`. The data set says what it is: SOP Class, SOP Instance, Study and Series Instance UID.
 *
 * Blocks. Errors: as `pacs_store`; `PACS_INVALID` when a UID is missing, a value can't be written or an
 * attribute is none of an instance. Group 0002 is left out.
 */
enum pacs_status pacs_store_data_set(struct pacs_engine *engine,
                                     const struct pacs_source *source,
                                     const struct pacs_data_set *set,
                                     struct pacs_stored *stored);

/**
 * Begins an instance whose file comes in pieces. Ended by `pacs_receipt_commit` or `pacs_receipt_abort`. `source`
 * may be null.
 *
 * Does not block. Errors: `PACS_OUT_OF_RESOURCES` when 64 receipts of the engine are open.
 */
enum pacs_status pacs_receive(struct pacs_engine *engine,
                              const struct pacs_source *source,
                              struct pacs_receipt **receipt);

/**
 * Takes the next bytes of the file; they are the caller's again afterwards.
 *
 * Blocks while the archive has too much unwritten: that is how a fast sender is slowed down. Errors: as
 * `pacs_store`; the instance is refused then, and the receipt is still to be ended.
 */
enum pacs_status pacs_receipt_write(struct pacs_receipt *receipt, const void *bytes, size_t length);

/**
 * Ends the file, makes the instance durable and visible, and ends the handle. When it returns `PACS_OK`, the instance
 * is on stable storage and a query finds it; otherwise nothing is kept. `stored` may be null.
 *
 * Blocks. Errors: as `pacs_store`; `PACS_CLOSED` when a piece was refused before.
 */
enum pacs_status pacs_receipt_commit(struct pacs_receipt *receipt,
                                     struct pacs_stored *stored);

/**
 * Gives an instance up, and ends the handle; null is nothing to do. Nothing of it is kept.
 */
enum pacs_status pacs_receipt_abort(struct pacs_receipt *receipt);

/**
 * The version of the binary interface that the library has.
 */
uint32_t pacs_abi_version(void);

/**
 * Whether the library has all that the header has: to be called with `PACS_ABI_VERSION`, before anything else.
 *
 * Errors: `PACS_UNSUPPORTED` when the library is older than the header.
 */
enum pacs_status pacs_check_abi(uint32_t version_of_header);

/**
 * The version of the library as text, for ever valid.
 */
const char *pacs_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PACS_H */
