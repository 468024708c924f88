// Holds pacs.hpp to what it says, where C++ begins: exceptions, lifetimes, callbacks. It needs no file and no peer.
//
// Run with: make -C examples/cpp test && examples/cpp/test
#include <atomic>
#include <cstdio>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <pacs.hpp>

using namespace std::chrono_literals;

static std::atomic<int> failures = 0;

static void expect(bool holds, const char *sentence) {
    std::printf("%s: %s\n", holds ? "ok" : "FAILED", sentence);
    failures += !holds;
}

// How a call fails; PACS_OK when it doesn't.
static pacs::Status status(const std::function<void()> &call, std::string *text = nullptr) {
    try {
        call();
        return PACS_OK;
    } catch (const pacs::Error &error) {
        if (text)
            *text = error.what();
        return error.status();
    }
}

static bool contains(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

// What all stores of these tests are: gone with the process.
static const char *const memory = "archive = 'memory'";

// An instance with a study, a series and a patient of its own.
static pacs::DataSet instance(const pacs::Context &context, int number, const std::string &modality = "CT") {
    std::string text = std::to_string(number);
    pacs::DataSet set(context);
    set.put("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2").put("SOPInstanceUID", "1.2.3." + text);
    set.put("StudyInstanceUID", "1.2.1." + text).put("SeriesInstanceUID", "1.2.2." + text);
    set.put("PatientName", "Müller^" + text).put("PatientID", "P" + text).put("Modality", modality);
    return set;
}

// How many studies have a patient of this ID.
static int studies(const pacs::Context &context, const pacs::Engine &engine, const std::string &patient,
                   const pacs::Source &source = {}) {
    pacs::DataSet keys(context);
    keys.put("PatientID", patient).put("StudyInstanceUID");
    int count = 0;
    for (pacs::DataSet &match : engine.find(pacs::Level::Study, keys, 0, source))
        count += match.text("StudyInstanceUID").has_value();
    return count;
}

static pacs::Remote remote(const pacs::Context &context, std::uint16_t port, const char *calling = "FRIEND") {
    return pacs::Remote(context, "127.0.0.1", port, "PACS", calling);
}

// A TCP port that takes connections, and says nothing.
class Silent {
public:
    Silent() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
        address_.sin_family = AF_INET;
        address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address_;
        auto *address = reinterpret_cast<sockaddr *>(&address_);
        if (bind(socket_, address, length) || listen(socket_, 8) || getsockname(socket_, address, &length))
            throw std::runtime_error("no port can be had");
    }
    ~Silent() { close(connection_), close(socket_); }
    // Until somebody has connected.
    void wait() { connection_ = accept(socket_, nullptr, nullptr); }
    std::uint16_t port() const { return ntohs(address_.sin_port); }

private:
    int socket_;
    int connection_ = -1;
    sockaddr_in address_{};
};

static void hooks_decide() {
    pacs::Context context;
    std::string institution, calling;
    pacs::Hooks hooks;
    hooks.before_store = [&](const pacs::Arriving &arriving) {
        std::string modality = arriving.header.text("Modality").value_or("");
        if (modality == "SR")
            throw pacs::Error(PACS_UNSUPPORTED, "ü" + std::string(61, '.') + "üü");
        if (modality == "PR")
            throw std::runtime_error("Müller");
        if (modality == "KO")
            throw pacs::Error(PACS_OK, "no");
        calling = arriving.source.calling_ae;
        arriving.changes.put("InstitutionName", "St. Elsewhere");
    };
    hooks.before_find = [](const pacs::Asking &asking) {
        if (asking.source.calling_ae == "GUEST" && asking.level == pacs::Level::Study)
            asking.restriction.put("PatientID", "P1");
    };
    hooks.before_retrieve = [](const pacs::Retrieving &retrieving) {
        if (retrieving.source.calling_ae == "GUEST")
            throw pacs::Error(PACS_REFUSED, "guests only look");
    };
    hooks.happened = [](const pacs::Event &) { throw 1; };
    pacs::Engine engine(context, memory, std::move(hooks));

    engine.store(instance(context, 1), {"MODALITY", "", ""});
    pacs::Stored stored = engine.store(instance(context, 2));
    expect(stored.instance == "1.2.3.2", "what the hook that is told throws is dropped, and the instance is kept");
    pacs::Instance first = engine.lookup("1.2.3.1").value();
    expect(first.header().text("InstitutionName") == "St. Elsewhere", "a hook changes what arrives");

    std::string text;
    pacs::Status refused = status([&] { engine.store(instance(context, 3, "SR")); }, &text);
    // 64 bytes, of which the last one begins a character of two.
    expect(refused == PACS_UNSUPPORTED && contains(text, "ü" + std::string(61, '.')) && !contains(text, ".ü") &&
               !contains(text, "\xEF\xBF\xBD"),
           "what a hook throws is the answer, cut where a character ends");
    refused = status([&] { engine.store(instance(context, 3, "PR")); }, &text);
    expect(refused == PACS_INTERNAL && !contains(text, "Müller"), "other exceptions refuse, untold");
    expect(status([&] { engine.store(instance(context, 3, "KO")); }) != PACS_OK, "what is thrown is never yes");
    expect(!engine.lookup("1.2.3.3"), "what was refused is not kept");

    const pacs::Source guest{"GUEST", "", ""};
    expect(studies(context, engine, "P*") == 2 && studies(context, engine, "P*", guest) == 1, "a hook narrows a query");
    expect(status([&] { first.read_all(pacs::Form::File, guest); }, &text) == PACS_REFUSED &&
               contains(text, "guests only look") && status([&] { first.read_all(); }) == PACS_OK,
           "a hook refuses a retrieval, by who asks");
    expect(status([&] { first.header(guest); }) == PACS_REFUSED, "a header is asked for by somebody, too");
}

static void hooks_live_as_long_as_they_are_needed() {
    pacs::Context context;
    auto held = std::make_shared<int>(0);
    std::weak_ptr<int> watched = held;
    pacs::Hooks hooks;
    hooks.before_retrieve = [held](const pacs::Retrieving &) { ++*held; };
    std::optional<pacs::Instance> kept;
    {
        pacs::Engine engine(context, memory, hooks);
        hooks = {};
        held.reset();
        engine.store(instance(context, 1));
        kept = engine.lookup("1.2.3.1");
    }
    expect(!watched.expired(), "hooks outlive the engine where something of it is left");
    kept.reset();
    expect(watched.expired(), "hooks are destroyed with the last of it");

    held = std::make_shared<int>(0);
    watched = held;
    hooks.before_retrieve = [held](const pacs::Retrieving &) { ++*held; };
    held.reset();
    expect(status([&] { pacs::Engine(context, "archive = 'tape'", std::move(hooks)); }) == PACS_INVALID &&
               watched.expired(),
           "hooks are destroyed when the engine can't be opened");
    expect(context.live_handles() == 0, "no handle is left");
}

static void events_come_one_by_one() {
    pacs::Context context;
    std::optional<pacs::Engine> engine;
    std::string events;
    pacs::Status change = PACS_OK;
    pacs::Hooks hooks;
    hooks.happened = [&](const pacs::Event &event) {
        events += (event.kind == pacs::EventKind::Stored ? " stored " : " removed ") + event.instance + " " +
                  event.source.calling_ae;
        // To ask is allowed, to change is not.
        events += engine->lookup(event.instance) ? "+" : "-";
        change = status([&] { engine->remove(pacs::Level::Instance, event.instance); });
    };
    engine.emplace(context, memory, std::move(hooks));
    engine->store(instance(context, 1), {"CT1", "", ""});
    engine->remove(pacs::Level::Patient, "P1");
    engine->close();
    expect(events == " stored 1.2.3.1 CT1+ removed 1.2.3.1 -", "what happened is told, in its order");
    expect(change == PACS_REFUSED, "what changes the engine is refused meanwhile");
}

static void what_is_kept_is_amended_and_patients_are_merged() {
    pacs::Context context;
    pacs::Engine engine(context, memory);
    for (int number : {1, 2}) {
        engine.store(instance(context, number));
    }
    pacs::DataSet wanted(context);
    wanted.put("PatientName", "Corrected^Näme");
    pacs::Amended amended = engine.amend(pacs::Level::Patient, "P1", wanted);
    expect(amended.amended == 1 && amended.failed == 0, "what is kept is amended");
    pacs::DataSet header = engine.lookup("1.2.3.1")->header();
    expect(header.text("PatientName") == "Corrected^Näme", "it leaves with the new value");
    amended = engine.amend(pacs::Level::Patient, "P1", wanted);
    expect(amended.amended == 0 && amended.unchanged == 1, "again it changes nothing");
    expect(status([&] { engine.merge_patients("P1", "NOBODY"); }) == PACS_NOT_FOUND, "who is not there gets nothing");
    amended = engine.merge_patients("P1", "P2");
    expect(amended.amended == 1 && studies(context, engine, "P2") == 2 && studies(context, engine, "P1") == 0,
           "two patients become one");
    pacs::DataSet uid(context);
    uid.put("StudyInstanceUID", "1.2");
    expect(status([&] { engine.amend(pacs::Level::Patient, "P2", uid); }) == PACS_INVALID, "UIDs stay");
}

static void an_instance_leaves_de_identified() {
    pacs::Context context;
    pacs::Engine engine(context, memory);
    engine.store(instance(context, 1));
    std::optional<pacs::Instance> kept = engine.lookup("1.2.3.1");
    pacs::Deidentifier by(context, "project = 'a project'\nsecret = 'sixteen bytes and more'");
    pacs::Deidentified out = kept->deidentify(by);
    std::vector<std::uint8_t> bytes = out.reader.read_all();
    std::string file(bytes.begin(), bytes.end());
    expect(!out.patient.empty() && contains(file, out.patient) && contains(file, out.instance),
           "what leaves has the pseudonym and the other UID");
    expect(!contains(file, "Müller") && !contains(file, "1.2.3.1"), "it has no name and no UID of what is kept");
    std::string text;
    expect(status([&] { pacs::Deidentifier(context, "project = 'p'\nsecret = 'short'"); }, &text) == PACS_INVALID &&
               contains(text, "16 bytes"),
           "a secret that is too short is refused");
    expect(status([&] { kept->deidentify(by, pacs::Form::Stored); }) == PACS_BAD_ARGUMENT,
           "what is stored is not de-identified");
}

static void what_is_stored_goes_where_the_program_says() {
    pacs::Context context;
    std::string routed;
    pacs::Hooks hooks;
    hooks.route = [](const pacs::Routing &routing) -> std::vector<std::string> {
        if (routing.attributes.text("Modality") == "MR")
            throw std::runtime_error("an MR");
        return {"WORKSTATION", "ARCHIVE2", "WORKSTATION", "A TITLE THAT IS TOO LONG"};
    };
    hooks.happened = [&](const pacs::Event &event) {
        if (event.kind == pacs::EventKind::Routed)
            routed += event.instance + " to " + event.destination + ", ";
    };
    pacs::Engine engine(context, memory, std::move(hooks));
    engine.store(instance(context, 1));
    engine.store(instance(context, 1));
    engine.store(instance(context, 2, "MR"));
    engine.close();
    expect(routed == "1.2.3.1 to WORKSTATION, 1.2.3.1 to ARCHIVE2, ", "a router's answer is told, each destination once");
}

static void peers_are_asked() {
    pacs::Context context;
    pacs::Engine ours(context, memory), third(context, memory);
    pacs::Hooks hooks;
    hooks.associate = [](const pacs::Associating &associating) {
        if (associating.source.calling_ae != "FRIEND")
            throw pacs::Error(PACS_REFUSED, "who is that?");
    };
    hooks.before_store = [](const pacs::Arriving &arriving) {
        if (arriving.header.text("Modality") == "SR")
            throw pacs::Error(PACS_REFUSED, "SR is not kept here");
    };
    pacs::Engine theirs(context, memory, std::move(hooks));
    pacs::Server to = pacs::Server::dicom(third, "port = 0\nae-title = 'THIRD'");
    pacs::Server server = pacs::Server::dicom(
        theirs, "port = 0\n[[peer]]\nae-title = 'THIRD'\nhost = '127.0.0.1'\nport = " + std::to_string(to.port()));
    pacs::Remote peer = remote(context, server.port());
    for (int number = 1; number <= 3; ++number)
        ours.store(instance(context, number, number == 3 ? "SR" : "CT"));

    expect(peer.echo() == 0, "a peer answers");
    pacs::Remote stranger = remote(context, server.port(), "STRANGER");
    expect(status([&] { stranger.echo(); }) == PACS_REFUSED, "a hook rejects a stranger");

    pacs::Operation operation;
    std::uint64_t told = 0;
    operation.timeout = 60s;
    operation.counting = [&](const pacs::Counts &counts) { return told = counts.completed + counts.failed, true; };
    pacs::Counts counts = peer.send(ours, pacs::Level::All, "", operation);
    expect(counts.completed == 2 && counts.failed == 1 && told == 3, "what is sent is counted");
    try {
        peer.send(ours, pacs::Level::Patient, "P3");
        expect(false, "a sending of which nothing is taken fails");
    } catch (const pacs::RemoteError &error) {
        expect(error.status() == PACS_REFUSED && error.counts().failed == 1 && error.counts().dimse_status != 0 &&
                   contains(error.what(), "SR is not kept here"),
               "a sending of which nothing is taken fails, and says why");
    }

    pacs::DataSet keys(context);
    keys.put("StudyInstanceUID").put("PatientName", "müller*");
    int matches = 0;
    std::optional<pacs::DataSet> kept;
    const auto here = std::this_thread::get_id();
    bool same = true;
    peer.find(pacs::Model::StudyRoot, pacs::Level::Study, keys, [&](const pacs::DataSet &match) {
        kept = match.copy();
        same = same && here == std::this_thread::get_id();
        return ++matches, true;
    });
    expect(matches == 2 && same, "each match comes, on the thread of the call");
    expect(contains(kept.value().text("PatientName").value(), "Müller^"), "the copy of a match stays");
    matches = 0;
    auto stop = [&](const pacs::DataSet &) { return ++matches, false; };
    expect(status([&] { peer.find(pacs::Model::StudyRoot, pacs::Level::Study, keys, stop); }) == PACS_CANCELLED &&
               matches == 1,
           "a callback ends a query");
    try {
        peer.find(pacs::Model::StudyRoot, pacs::Level::Study, keys,
                  [&](const pacs::DataSet &) -> bool { throw std::out_of_range(std::to_string(++matches)); });
        expect(false, "what a callback throws comes out of the call");
    } catch (const std::out_of_range &error) {
        expect(error.what() == std::string("2"), "what a callback throws first comes out of the call");
    }

    pacs::Engine fetched(context, memory);
    pacs::DataSet one(context);
    one.put("StudyInstanceUID", "1.2.1.1");
    counts = peer.get(fetched, pacs::Model::StudyRoot, pacs::Level::Study, one, operation);
    expect(counts.completed == 1 && studies(context, fetched, "P1") == 1, "a study is fetched");
    counts = peer.move(pacs::Model::StudyRoot, pacs::Level::Study, one, "THIRD");
    expect(counts.completed == 1 && studies(context, third, "P1") == 1, "a study is moved");
    try {
        peer.move(pacs::Model::StudyRoot, pacs::Level::Study, one, "NOWHERE");
        expect(false, "a move to nowhere fails");
    } catch (const pacs::RemoteError &error) {
        expect(error.status() == PACS_REFUSED && error.counts().dimse_status == 0xA801, "a move to nowhere fails");
    }
    operation.counting = [](const pacs::Counts &) -> bool { throw 7; };
    int thrown = 0;
    try {
        peer.move(pacs::Model::StudyRoot, pacs::Level::Study, one, "THIRD", operation);
    } catch (int number) {
        thrown = number;
    }
    expect(thrown == 7, "what a callback throws that counts comes out of the call");
    expect(status([&] { peer.store_file("/no/such/file"); }) == PACS_NOT_FOUND, "a file that is not there is not sent");

    server.stop(5s);
    expect(status([&] { peer.echo(); }) == PACS_IO, "a server that was stopped is gone");
}

static void calls_end_early() {
    pacs::Context context;
    Silent silent;
    pacs::Operation operation;
    operation.timeout = 100ms;
    expect(status([&] { remote(context, silent.port()).echo(operation); }) == PACS_TIMED_OUT, "a call ends in time");
    operation.timeout = -1ms;
    expect(status([&] { remote(context, silent.port()).echo(operation); }) == PACS_TIMED_OUT,
           "a time that is over is no time without end");

    Silent other;
    pacs::Cancel cancel(context);
    operation.timeout = 60s;
    operation.cancel = &cancel;
    std::thread canceller([&] {
        other.wait();
        cancel.now();
    });
    expect(status([&] { remote(context, other.port()).echo(operation); }) == PACS_CANCELLED,
           "a call is cancelled from another thread");
    canceller.join();
}

static void a_polled_context_works_while_it_is_polled() {
    pacs::ContextOptions options;
    options.polled = true;
    pacs::Context polled(options);
    const auto here = std::this_thread::get_id();
    bool same = false;
    pacs::Hooks hooks;
    hooks.associate = [&](const pacs::Associating &) { same = here == std::this_thread::get_id(); };
    pacs::Engine engine(polled, memory, std::move(hooks));
    pacs::Server server = pacs::Server::dicom(engine, "port = 0");
    auto echo = std::async(std::launch::async, [port = server.port()] {
        pacs::Context context;
        return remote(context, port).echo();
    });
    while (echo.wait_for(0s) != std::future_status::ready)
        polled.poll(5ms);
    expect(echo.get() == 0 && same, "a server of a polled context answers, on the thread that polls");
    expect(remote(polled, server.port()).echo() == 0, "calls of a polled context are their own polling");
    server.stop(1s);
    expect(status([&] { pacs::Context().poll(0ms); }) == PACS_UNSUPPORTED, "a context with threads is not polled");
}

static void the_web_is_served() {
    pacs::Context context;
    pacs::Engine engine(context, memory);
    pacs::Server server = pacs::Server::web(engine, "port = 0");
    expect(server.port() != 0, "a web server has a port");
    std::string text;
    expect(status([&] { pacs::Server::web(engine, "port = 0\ncolour = 'red'"); }, &text) == PACS_INVALID &&
               contains(text, "colour"),
           "a configuration that is wrong is told");
    // Declared last, it is stopped first.
}

static void lines_are_logged() {
    std::mutex mutex;
    int lines = 0;
    pacs::ContextOptions options;
    options.log_level = pacs::LogLevel::Trace;
    options.log = [&](pacs::LogLevel level, std::string_view target, std::string_view) {
        std::lock_guard<std::mutex> lock(mutex);
        lines += level <= pacs::LogLevel::Trace && target.substr(0, 4) == "pacs";
        throw std::runtime_error("dropped");
    };
    {
        pacs::Context context(options);
        pacs::Engine engine(context, memory);
        engine.store(instance(context, 1));
        pacs::Server server = pacs::Server::dicom(engine, "port = 0");
        remote(context, server.port()).echo();
    }
    expect(lines > 0, "lines are logged, and what the log throws is dropped");
}

int main()
try {
    hooks_decide();
    hooks_live_as_long_as_they_are_needed();
    events_come_one_by_one();
    what_is_kept_is_amended_and_patients_are_merged();
    an_instance_leaves_de_identified();
    what_is_stored_goes_where_the_program_says();
    peers_are_asked();
    calls_end_early();
    a_polled_context_works_while_it_is_polled();
    the_web_is_served();
    lines_are_logged();
    return failures ? 1 : 0;
} catch (const std::exception &error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
}
