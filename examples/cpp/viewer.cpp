// What a viewer does with an embedded store: lists the studies of a patient's name, opens an image of the first one's
// first series that has any, looks at its samples and draws a picture of it.
//
// Run with: make -C examples/cpp && examples/cpp/viewer DIRECTORY 'doe*' picture.png
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <pacs.hpp>

// An attribute that may be missing, as text.
static std::string text(const pacs::DataSet &set, pacs::Tag tag) { return set.text(tag).value_or("-"); }

// The first instance of a study, in the order of series, that has an image.
static std::optional<pacs::Instance> first_image(const pacs::Context &context, const pacs::Engine &engine,
                                                 const std::string &study) {
    pacs::DataSet keys(context);
    keys.put("StudyInstanceUID", study).put("SeriesInstanceUID").put("Modality");
    for (pacs::DataSet &series : engine.find(pacs::Level::Series, keys)) {
        std::printf("a series of %s\n", text(series, "Modality").c_str());
        for (pacs::Instance &instance : engine.walk(pacs::Level::Series, text(series, "SeriesInstanceUID")))
            if (instance.header().count("Rows"))
                return std::move(instance);
    }
    return std::nullopt;
}

// Prints what range the samples of a decoded frame have.
static void look_at(const pacs::Pixels &pixels, const std::vector<std::uint8_t> &bytes) {
    std::printf("%u x %u, %u samples of %u bits, %s\n", pixels.columns, pixels.rows, pixels.samples_per_pixel,
                pixels.bits_stored, pixels.photometric_interpretation.c_str());
    std::size_t width = pixels.bits_allocated / 8;
    if (width == 0 || width > 4 || bytes.size() < width)
        return;
    // The bits of a sample end at the High Bit; what lies beside them isn't part of it.
    unsigned above = 63u - pixels.high_bit, below = 64u - pixels.bits_stored;
    double least = 0, greatest = 0, sum = 0;
    std::size_t count = bytes.size() / width;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t cell = 0;
        for (std::size_t byte = 0; byte < width; ++byte)
            cell |= std::uint64_t(bytes[i * width + byte]) << (8 * byte);
        cell <<= above;
        double sample = pixels.pixel_representation ? double(std::int64_t(cell) >> below) : double(cell >> below);
        least = i ? std::min(least, sample) : sample;
        greatest = i ? std::max(greatest, sample) : sample;
        sum += sample;
    }
    std::printf("samples from %g to %g, %g in the mean\n", least, greatest, sum / double(count));
}

int main(int argc, char **argv)
try {
    if (argc != 4)
        return std::fprintf(stderr, "which store, whose studies, and where does the picture go?\n"), 2;
    pacs::Context context;
    pacs::Engine engine(context, "data = '" + std::string(argv[1]) + "'");

    pacs::DataSet keys(context);
    keys.put("PatientName", argv[2]).put("StudyDate").put("ModalitiesInStudy").put("StudyInstanceUID");
    std::optional<pacs::Instance> image;
    for (pacs::DataSet &study : engine.find(pacs::Level::Study, keys)) {
        std::printf("%s  %s  %s\n", text(study, "StudyDate").c_str(), text(study, "ModalitiesInStudy").c_str(),
                    text(study, "PatientName").c_str());
        if (!image)
            image = first_image(context, engine, text(study, "StudyInstanceUID"));
    }
    if (!image)
        throw std::runtime_error("no study of this name has an image");

    pacs::DecodedFrame frame = image->frames().decode(1);
    look_at(frame.pixels, frame.read_all());

    std::string path = argv[3];
    pacs::Picture picture;
    if (path.size() > 4 && path.substr(path.size() - 4) == ".jpg")
        picture.format = pacs::PictureFormat::Jpeg;
    std::vector<std::uint8_t> drawn = image->render(picture).read_all();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char *>(drawn.data()), std::streamsize(drawn.size()));
    if (!file.flush())
        throw std::runtime_error("the picture can't be written");
    std::printf("%zu bytes of picture\n", drawn.size());
    engine.close();
    return 0;
} catch (const std::exception &error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
}
