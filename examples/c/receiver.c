/* Receives instances (C-STORE) into a store: from those peers alone that are named, no structured reports, and with our
 * Institution Name in them. Stops at SIGINT or SIGTERM, and when COUNT instances have come; 0 is no such count.
 * Run with: make -C examples/c && examples/c/receiver DIRECTORY PORT COUNT AE-TITLE... */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pacs.h>

enum { MODALITY = 0x00080060, INSTITUTION_NAME = 0x00080080 };

/* What the hooks are given. */
struct receiver {
    char **peers;
    long count;
};

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

/* May be called by several threads at once, as before_store may: nothing is changed here. */
static int32_t associate(void *user, const pacs_associating *associating)
{
    const char *calling = associating->source->calling_ae;
    for (char **peer = ((struct receiver *)user)->peers; *peer; peer++)
        if (calling && strcmp(calling, *peer) == 0)
            return PACS_OK;
    return PACS_REFUSED;
}

static int32_t before_store(void *user, const pacs_arriving *arriving, char *reason)
{
    char modality[17];
    (void)user;
    if (pacs_data_set_text(arriving->header, MODALITY, 0, modality, sizeof modality, NULL) == PACS_OK &&
        strcmp(modality, "SR") == 0) {
        snprintf(reason, PACS_REASON_LENGTH, "structured reports are not kept here");
        return PACS_REFUSED;
    }
    return pacs_data_set_put(arriving->changes, INSTITUTION_NAME, NULL, "Example Hospital");
}

/* Called with one event after the other, so the count needs no lock. */
static void happened(void *user, const pacs_event *event)
{
    struct receiver *receiver = user;
    if (event->kind != PACS_EVENT_STORED)
        return;
    printf("stored %s of study %s\n", event->instance, event->study);
    if (receiver->count > 0 && --receiver->count == 0)
        kill(getpid(), SIGTERM);
}

int main(int argc, char **argv)
{
    struct receiver receiver;
    pacs_hooks hooks = {.struct_size = sizeof hooks, .user = &receiver, .associate = associate,
                        .before_store = before_store, .happened = happened};
    pacs_parts parts = {.struct_size = sizeof parts, .hooks = &hooks};
    pacs_engine *engine;
    pacs_server *server;
    char configuration[1024];
    uint16_t port;
    sigset_t signals;
    int caught;

    if (argc < 5)
        return fprintf(stderr, "where to keep it, on which port, how many, and from whom?\n"), 2;
    receiver.count = atol(argv[3]), receiver.peers = argv + 4;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    /* Before there are other threads, which inherit it: signals wait until main asks for them. */
    sigemptyset(&signals), sigaddset(&signals, SIGINT), sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    check(pacs_check_abi(PACS_ABI_VERSION), "libpacs");
    check(pacs_context_new(NULL, &context), "context");
    snprintf(configuration, sizeof configuration, "data = '%s'", argv[1]);
    check(pacs_engine_open(context, configuration, &parts, &engine), "open");
    /* For peers on other machines: listen = '0.0.0.0'. */
    snprintf(configuration, sizeof configuration, "ae-title = 'RECEIVER'\nport = %d", atoi(argv[2]));
    check(pacs_dicom_start(engine, configuration, &server), "start");
    check(pacs_server_port(server, &port), "port");
    printf("RECEIVER listens on port %u\n", port);

    sigwait(&signals, &caught);
    /* Who is sending may finish within five seconds. */
    check(pacs_server_stop(server, 5000), "stop");
    check(pacs_engine_close(engine), "close");
    return pacs_context_free(context) == PACS_OK ? 0 : 1;
}
