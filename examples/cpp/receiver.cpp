// Receives instances (C-STORE) into a store: from those peers alone that are named, no structured reports, and with our
// Institution Name in them. Stops at SIGINT or SIGTERM, and when COUNT instances have come; 0 is no such count.
//
// Run with: make -C examples/cpp && examples/cpp/receiver DIRECTORY PORT COUNT AE-TITLE...
#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include <unistd.h>

#include <pacs.hpp>

int main(int argc, char **argv)
try {
    if (argc < 5)
        return std::cerr << "where to keep it, on which port, how many, and from whom?\n", 2;
    const std::string directory = argv[1], port = argv[2];
    const std::vector<std::string> peers(argv + 4, argv + argc);
    long count = std::stol(argv[3]);

    // Before there are other threads, which inherit it: signals wait until main asks for them.
    sigset_t signals;
    sigemptyset(&signals), sigaddset(&signals, SIGINT), sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);

    // What the hooks use by reference is declared before the engine, and so outlives them. They may be called by
    // several threads at once, but for `happened`: so the count needs no lock.
    pacs::Hooks hooks;
    hooks.associate = [&](const pacs::Associating &associating) {
        if (std::find(peers.begin(), peers.end(), associating.source.calling_ae) == peers.end())
            throw pacs::Error(PACS_REFUSED, "not one of our peers");
    };
    hooks.before_store = [](const pacs::Arriving &arriving) {
        if (arriving.header.text("Modality") == "SR")
            throw pacs::Error(PACS_REFUSED, "structured reports are not kept here");
        arriving.changes.put("InstitutionName", "Example Hospital");
    };
    hooks.happened = [&](const pacs::Event &event) {
        if (event.kind != pacs::EventKind::Stored)
            return;
        std::cout << "stored " << event.instance << " of study " << event.study << std::endl;
        if (count > 0 && --count == 0)
            kill(getpid(), SIGTERM);
    };

    pacs::Context context;
    pacs::Engine engine(context, "data = '" + directory + "'", std::move(hooks));
    // For peers on other machines: listen = '0.0.0.0'.
    pacs::Server server = pacs::Server::dicom(engine, "ae-title = 'RECEIVER'\nport = " + port);
    std::cout << "RECEIVER listens on port " << server.port() << std::endl;

    int caught = 0;
    sigwait(&signals, &caught);
    // Who is sending may finish within five seconds.
    server.stop(std::chrono::seconds(5));
    engine.close();
    return 0;
} catch (const std::exception &error) {
    return std::cerr << error.what() << '\n', 1;
}
