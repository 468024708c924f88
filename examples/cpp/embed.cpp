// A PACS inside a program: keeps a DICOM file, finds it and reads it back.
//
// Run with: make -C examples/cpp && examples/cpp/embed FILE DIRECTORY
#include <cstdio>
#include <string>

#include <pacs.hpp>

int main(int argc, char **argv)
try {
    if (argc != 3)
        return std::fprintf(stderr, "which file, and where to keep it?\n"), 2;
    pacs::Context context;
    pacs::Engine engine(context, "data = '" + std::string(argv[2]) + "'");

    // When this returns, the instance is on stable storage, and found.
    pacs::Stored stored = engine.store_file(argv[1]);

    pacs::DataSet keys(context);
    keys.put("PatientName", "*").put("StudyInstanceUID", stored.study);
    for (pacs::DataSet &match : engine.find(pacs::Level::Study, keys))
        if (auto name = match.text("PatientName"))
            std::printf("a study of %s\n", name->c_str());

    auto instance = engine.lookup(stored.instance);
    std::size_t total = 0;
    instance.value().read([&](pacs::BytesView piece) {
        total += piece.size();
        return true;
    });
    std::printf("%zu bytes read back\n", total);

    engine.close();
    return 0;
} catch (const std::exception &error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
}
