// pacs.hpp: pacs.h for C++17 and later. Nothing but this header and pacs.h is needed.
//
// - Each class has one handle of C and frees it: they are moved, not copied, and may be destroyed in any order. A
//   context lives until the last of what was made with it is gone.
// - What fails throws pacs::Error. What may well be missing is a std::optional.
// - Text is UTF-8 in std::string. A BytesView is made of whatever holds bytes one behind the other.
// - Callbacks may throw. What is thrown out of one that is called during a call comes out of that call, once C code
//   is behind it; the others say what becomes of it.
// - Threads: as pacs.h says of each handle. To move, assign or destroy an object needs it for oneself.
// - What is not here is called in C, with get().
#ifndef PACS_HPP
#define PACS_HPP

#include "pacs.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace pacs {

using Status = pacs_status;

// Why a call failed. what() holds no patient data.
class Error : public std::runtime_error {
public:
    // Of a call of this thread that answered `status`. `context` may be null: then the status is all that is known.
    explicit Error(Status status, const pacs_context *context = nullptr) : Error(status, last(status, context)) {}
    // Of what failed outside the library.
    Error(Status status, const std::string &text) : std::runtime_error(text), status_(status) {}

    Status status() const noexcept { return status_; }
    // The same call may succeed later.
    bool retry() const noexcept { return retry_; }
    // During which operation, as noun.verb; empty where it isn't known.
    const char *operation() const noexcept { return operation_; }
    // The status that answers a C-STORE which failed this way; 0 where the failure is none of the engine's.
    std::uint16_t dimse_status() const noexcept { return dimse_status_; }

private:
    Error(Status status, const pacs_error &last)
        : std::runtime_error(last.text[0] ? last.text : pacs_status_text(status)), status_(status),
          retry_(last.retry != 0), dimse_status_(last.dimse_status) {
        std::copy(std::begin(last.operation), std::end(last.operation), operation_);
    }

    static pacs_error last(Status status, const pacs_context *context) noexcept {
        pacs_error error{};
        error.struct_size = sizeof error;
        // A call without a valid handle leaves the failure of an earlier one there.
        if (pacs_last_error(context, &error) != PACS_OK || error.status != status) {
            error = {};
        }
        return error;
    }

    Status status_;
    bool retry_ = false;
    std::uint16_t dimse_status_ = 0;
    char operation_[PACS_OPERATION_LENGTH] = {};
};

// Throws when the library is older than this header. A Context asks it first.
inline void check_abi() {
    if (Status status = pacs_check_abi(PACS_ABI_VERSION); status != PACS_OK) {
        throw Error(status, "the library is older than pacs.h");
    }
}

enum class Level : std::int32_t {
    All = PACS_LEVEL_ALL,
    Patient = PACS_LEVEL_PATIENT,
    Study = PACS_LEVEL_STUDY,
    Series = PACS_LEVEL_SERIES,
    Instance = PACS_LEVEL_INSTANCE,
};

enum class Form : std::int32_t {
    File = PACS_FORM_FILE,
    DataSet = PACS_FORM_DATA_SET,
    Stored = PACS_FORM_STORED,
};

enum class Outcome : std::int32_t {
    New = PACS_OUTCOME_NEW,
    AlreadyKept = PACS_OUTCOME_ALREADY_KEPT,
    Replaced = PACS_OUTCOME_REPLACED,
    FirstKept = PACS_OUTCOME_FIRST_KEPT,
};

// What happened to an instance. Later libraries may have others.
enum class EventKind : std::int32_t {
    Stored = PACS_EVENT_STORED,
    Removed = PACS_EVENT_REMOVED,
    Amended = PACS_EVENT_AMENDED,
    Routed = PACS_EVENT_ROUTED,
};

// The information model of a query to a peer (PS3.4 C.6).
enum class Model : std::int32_t { StudyRoot = PACS_MODEL_STUDY_ROOT, PatientRoot = PACS_MODEL_PATIENT_ROOT };

enum class PictureFormat : std::int32_t { Png = PACS_PICTURE_PNG, Jpeg = PACS_PICTURE_JPEG };

enum class LogLevel : std::uint32_t { Error = 1, Warning = 2, Info = 3, Debug = 4, Trace = 5 };

// Bytes of somebody else: of a vector, a string, an array.
class BytesView {
public:
    BytesView(const void *data, std::size_t size) noexcept
        : data_(static_cast<const std::uint8_t *>(data)), size_(size) {}

    // Not of a string literal, which has a NUL behind it and is a path more often than an instance.
    template <typename Bytes, typename = std::enable_if_t<sizeof(*std::data(std::declval<const Bytes &>())) == 1 &&
                                                          !std::is_convertible_v<const Bytes &, const char *>>>
    BytesView(const Bytes &bytes) noexcept : BytesView(std::data(bytes), std::size(bytes)) {}

    const std::uint8_t *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    const std::uint8_t *begin() const noexcept { return data_; }
    const std::uint8_t *end() const noexcept { return data_ + size_; }

private:
    const std::uint8_t *data_;
    std::size_t size_;
};

// The tag of an attribute: 0x00100010, or its keyword, "PatientName".
class Tag {
public:
    constexpr Tag(std::uint32_t tag) noexcept : tag_(tag) {}
    Tag(const char *keyword) : tag_(0) {
        if (Status status = pacs_tag(keyword, &tag_); status != PACS_OK) {
            throw Error(status, std::string("no attribute has the keyword ") + keyword);
        }
    }
    Tag(const std::string &keyword) : Tag(keyword.c_str()) {}

    constexpr operator std::uint32_t() const noexcept { return tag_; }

private:
    std::uint32_t tag_;
};

// Who sends or asks; empty where it isn't known.
struct Source {
    std::string calling_ae = {};
    std::string called_ae = {};
    // With its port.
    std::string address = {};
};

// Takes the next bytes of what is read; true to go on, false to end the call with PACS_CANCELLED.
using Sink = std::function<bool(BytesView)>;
// Told how many instances are done; true to go on, false to end the call with PACS_CANCELLED.
using Progress = std::function<bool(std::uint64_t)>;
// Told the SOP Instance UID of an instance that is damaged or could not be amended, and why.
using Damaged = std::function<void(std::string_view, std::string_view)>;
// Takes a line of the log: its level, the part of the library, the text. Called from any thread; what it throws is
// dropped.
using Log = std::function<void(LogLevel, std::string_view, std::string_view)>;

namespace detail {

// A structure of C with nothing in it but its size.
template <typename Structure>
Structure sized() noexcept {
    Structure structure{};
    structure.struct_size = sizeof structure;
    return structure;
}

// A Source as C takes it; valid as long as that is.
class CSource {
public:
    explicit CSource(const Source &source) noexcept {
        source_.calling_ae = optional(source.calling_ae);
        source_.called_ae = optional(source.called_ae);
        source_.address = optional(source.address);
    }
    operator const pacs_source *() const noexcept { return &source_; }

private:
    static const char *optional(const std::string &text) noexcept { return text.empty() ? nullptr : text.c_str(); }

    pacs_source source_ = sized<pacs_source>();
};

// As C takes a length of time.
inline std::uint32_t milliseconds(std::chrono::milliseconds time) noexcept {
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time.count(), 0, UINT32_MAX));
}

// A function that C calls during one call of ours: it is `user` there. What it throws waits here until that call is
// over, since nothing may be thrown through the library.
template <typename Function>
class Guarded {
public:
    explicit Guarded(const Function &function) noexcept : function_(function) {}

    // Whether to go on: what the function answers, true when it answers nothing, false when it throws or did before.
    template <typename... Arguments>
    bool call(const Arguments &...arguments) noexcept {
        if (thrown_) {
            return false;
        }
        try {
            if constexpr (std::is_void_v<std::invoke_result_t<const Function &, const Arguments &...>>) {
                function_(arguments...);
                return true;
            } else {
                return function_(arguments...);
            }
        } catch (...) {
            thrown_ = std::current_exception();
            return false;
        }
    }

    void rethrow() const {
        if (thrown_) {
            std::rethrow_exception(thrown_);
        }
    }

private:
    const Function &function_;
    std::exception_ptr thrown_;
};

// Frees what C was given to keep for its callbacks, made by new.
template <typename Kept>
void destroy(void *kept) noexcept {
    delete static_cast<Kept *>(kept);
}

// The text that `call` writes: a function of C with a buffer, its capacity and the length as last arguments. What fits
// into `guess` needs one call.
template <typename Call>
Status text(std::string &text, std::size_t guess, Call &&call) {
    std::size_t length = 0;
    // A string has room for NUL behind its end.
    text.resize(guess);
    Status status;
    while ((status = call(text.data(), text.size() + 1, &length)) == PACS_BUFFER_TOO_SMALL) {
        text.resize(length);
    }
    text.resize(status == PACS_OK ? length : 0);
    return status;
}

// A handle of C. `Free` ends it.
template <typename Raw, Status (*Free)(Raw *)>
class Handle {
public:
    // Takes over a handle that C made.
    Handle(std::shared_ptr<pacs_context> context, Raw *raw) noexcept : context_(std::move(context)), raw_(raw) {}

    Handle(Handle &&other) noexcept : context_(std::move(other.context_)), raw_(other.release()) {}

    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            Free(raw_);
            context_ = std::move(other.context_);
            raw_ = other.release();
        }
        return *this;
    }

    // Null when it was moved from or ended.
    Raw *get() const noexcept { return raw_; }
    // Whose it is.
    const std::shared_ptr<pacs_context> &context() const noexcept { return context_; }
    // Gives the handle away: it is freed in C then, and before its context is gone.
    Raw *release() noexcept { return std::exchange(raw_, nullptr); }

protected:
    ~Handle() { Free(raw_); }

    void check(Status status) const {
        if (status != PACS_OK) {
            throw Error(status, context_.get());
        }
    }

    // Whether it is there.
    bool found(Status status, Status missing = PACS_NOT_FOUND) const {
        if (status == missing) {
            return false;
        }
        check(status);
        return true;
    }

private:
    std::shared_ptr<pacs_context> context_;
    Raw *raw_;
};

// What range-for needs of an iterator of C. It goes over everything once; what it is at may be moved away.
template <typename Iterated, typename Value>
class Once {
public:
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Value;
        using difference_type = std::ptrdiff_t;
        using pointer = Value *;
        using reference = Value &;

        explicit iterator(Once *at = nullptr) : at_(at) {
            if (at_) {
                ++*this;
            }
        }
        reference operator*() const { return *at_->current_; }
        pointer operator->() const { return &*at_->current_; }
        iterator &operator++() {
            at_->current_ = static_cast<Iterated *>(at_)->next();
            if (!at_->current_) {
                at_ = nullptr;
            }
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &one, const iterator &other) { return one.at_ == other.at_; }
        friend bool operator!=(const iterator &one, const iterator &other) { return one.at_ != other.at_; }

    private:
        Once *at_;
    };

    iterator begin() { return iterator(this); }
    iterator end() { return iterator(); }

private:
    std::optional<Value> current_;
};

}  // namespace detail

// How a context works.
struct ContextOptions {
    // Threads of the pool that servers and network calls run on; 0 for one for each processor.
    std::uint32_t threads = 0;
    // No pool: servers and network calls go on only inside Context::poll.
    bool polled = false;
    Log log = {};
    LogLevel log_level = LogLevel::Info;
};

// Threads, errors and log of one user of the library. Everything else is made with one.
class Context {
public:
    explicit Context(ContextOptions options = {}) {
        check_abi();
        auto c = detail::sized<pacs_context_options>();
        c.threads = options.threads;
        c.polled = options.polled;
        c.log_level = static_cast<std::uint32_t>(options.log_level);
        if (options.log) {
            c.log = [](void *user, std::uint32_t level, const char *target, const char *text) noexcept {
                try {
                    (*static_cast<Log *>(user))(static_cast<LogLevel>(level), target, text);
                } catch (...) {
                    // There is no call that it could come out of.
                }
            };
            c.log_destroy = detail::destroy<Log>;
            c.log_user = new Log(std::move(options.log));
        }
        pacs_context *raw = nullptr;
        // From here on what the log needs is the library's, also when it fails.
        if (Status status = pacs_context_new(&c, &raw); status != PACS_OK) {
            throw Error(status);
        }
        shared_.reset(raw, [](pacs_context *context) { pacs_context_free(context); });
    }

    Context(Context &&) noexcept = default;
    Context &operator=(Context &&) noexcept = default;

    pacs_context *get() const noexcept { return shared_.get(); }
    const std::shared_ptr<pacs_context> &context() const noexcept { return shared_; }

    // Lets servers and network calls of a polled context go on, on this thread, for so long; with 0 once over what is
    // ready. From one thread at a time, and not in a callback.
    void poll(std::chrono::milliseconds timeout) { check(pacs_poll(get(), detail::milliseconds(timeout))); }

    // Handles that are open: 0 when nothing leaks.
    std::uint64_t live_handles() const {
        std::uint64_t count = 0;
        check(pacs_live_handles(get(), &count));
        return count;
    }

    void check(Status status) const {
        if (status != PACS_OK) {
            throw Error(status, get());
        }
    }

private:
    std::shared_ptr<pacs_context> shared_;
};

// A data set in memory: what a query asks, a match, the header of an instance.
class DataSet : public detail::Handle<pacs_data_set, pacs_data_set_free> {
public:
    using Handle::Handle;

    // One without attributes.
    explicit DataSet(const Context &context) : Handle(context.context(), make(context)) {}

    // One object of the DICOM JSON Model.
    static DataSet from_json(const Context &context, const std::string &json) {
        pacs_data_set *raw = nullptr;
        context.check(pacs_data_set_from_json(context.get(), json.c_str(), &raw));
        return DataSet(context.context(), raw);
    }

    // Several values have a backslash between them; without a value it is a return key. The VR is the Standard's
    // unless it is given.
    DataSet &put(Tag tag, const std::string &text = {}, const char *vr = nullptr) {
        check(pacs_data_set_put(get(), tag, vr, text.c_str()));
        return *this;
    }

    DataSet &put_bytes(Tag tag, const char *vr, BytesView bytes) {
        check(pacs_data_set_put_bytes(get(), tag, vr, bytes.data(), bytes.size()));
        return *this;
    }

    // Adds a copy of `item` to a sequence, which is made where it isn't there.
    DataSet &add_item(Tag tag, const DataSet &item) {
        check(pacs_data_set_add_item(get(), tag, item.get()));
        return *this;
    }

    void remove(Tag tag) { check(pacs_data_set_remove(get(), tag)); }

    // Attributes at the top level.
    std::size_t size() const {
        std::size_t size = 0;
        check(pacs_data_set_size(get(), &size));
        return size;
    }

    struct Attribute {
        std::uint32_t tag;
        std::string vr;
    };

    // The attribute at a position from 0, in the order of tags.
    std::optional<Attribute> at(std::size_t position) const {
        std::uint32_t tag = 0;
        char vr[3] = {};
        if (!found(pacs_data_set_at(get(), position, &tag, vr), PACS_END)) {
            return std::nullopt;
        }
        return Attribute{tag, vr};
    }

    // How many values an attribute has, or items where it is a sequence.
    std::optional<std::size_t> count(Tag tag) const {
        std::size_t count = 0;
        return found(pacs_data_set_count(get(), tag, &count)) ? std::optional(count) : std::nullopt;
    }

    // A value as text, in UTF-8.
    std::optional<std::string> text(Tag tag, std::size_t index = 0) const {
        std::string text;
        Status status = detail::text(text, 63, [&](char *buffer, std::size_t capacity, std::size_t *length) {
            return pacs_data_set_text(get(), tag, index, buffer, capacity, length);
        });
        return found(status) ? std::optional(std::move(text)) : std::nullopt;
    }

    // A value as a whole number; one that isn't whole throws.
    std::optional<std::int64_t> integer(Tag tag, std::size_t index = 0) const {
        std::int64_t number = 0;
        return found(pacs_data_set_integer(get(), tag, index, &number)) ? std::optional(number) : std::nullopt;
    }

    // A value as a number.
    std::optional<double> number(Tag tag, std::size_t index = 0) const {
        double number = 0;
        return found(pacs_data_set_double(get(), tag, index, &number)) ? std::optional(number) : std::nullopt;
    }

    // All values together, little endian.
    std::optional<std::vector<std::uint8_t>> bytes(Tag tag) const {
        std::vector<std::uint8_t> bytes;
        std::size_t length = 0;
        Status status;
        while ((status = pacs_data_set_bytes(get(), tag, bytes.data(), bytes.size(), &length)) ==
               PACS_BUFFER_TOO_SMALL) {
            bytes.resize(length);
        }
        if (!found(status)) {
            return std::nullopt;
        }
        bytes.resize(length);
        return bytes;
    }

    // A copy of an item of a sequence.
    std::optional<DataSet> item(Tag tag, std::size_t index = 0) const {
        pacs_data_set *raw = nullptr;
        if (!found(pacs_data_set_item(get(), tag, index, &raw))) {
            return std::nullopt;
        }
        return DataSet(context(), raw);
    }

    // One of its own with the same attributes: what is lent to a callback is kept that way.
    DataSet copy() const {
        // C copies items alone, so it is one for a moment: of Referenced Series Sequence.
        constexpr std::uint32_t sequence = 0x00081115;
        pacs_data_set *raw = nullptr;
        check(pacs_data_set_new(context().get(), &raw));
        DataSet around(context(), raw);
        around.add_item(sequence, *this);
        return around.item(sequence).value();
    }

    // In the DICOM JSON Model.
    std::string json() const {
        std::string text;
        check(detail::text(text, 4095, [&](char *buffer, std::size_t capacity, std::size_t *length) {
            return pacs_data_set_json(get(), buffer, capacity, length);
        }));
        return text;
    }

private:
    static pacs_data_set *make(const Context &context) {
        pacs_data_set *raw = nullptr;
        context.check(pacs_data_set_new(context.get(), &raw));
        return raw;
    }
};

// The matches of a query: range-for goes over them once.
class Matches : public detail::Handle<pacs_matches, pacs_matches_free>, public detail::Once<Matches, DataSet> {
public:
    using Handle::Handle;

    std::optional<DataSet> next() {
        pacs_data_set *raw = nullptr;
        if (!found(pacs_matches_next(get(), &raw), PACS_END)) {
            return std::nullopt;
        }
        return DataSet(context(), raw);
    }
};

// Bytes that are read piece by piece.
class Reader : public detail::Handle<pacs_reader, pacs_reader_free> {
public:
    using Handle::Handle;

    // Reads as many bytes as fit, fewer at the end alone; 0 when nothing is left.
    std::size_t read(void *buffer, std::size_t capacity) {
        std::size_t length = 0;
        return found(pacs_reader_read(get(), buffer, capacity, &length), PACS_END) ? length : 0;
    }

    // All that is left. `expected` is how much that will be, where it is known.
    std::vector<std::uint8_t> read_all(std::size_t expected = 0) {
        std::vector<std::uint8_t> all;
        all.reserve(expected);
        std::uint8_t piece[16384];
        while (std::size_t length = read(piece, sizeof piece)) {
            all.insert(all.end(), piece, piece + length);
        }
        return all;
    }

    // Hands everything that is left to `sink`.
    void read(const Sink &sink) {
        std::vector<std::uint8_t> piece(65536);
        while (std::size_t length = read(piece.data(), piece.size())) {
            if (!sink(BytesView(piece.data(), length))) {
                throw Error(PACS_CANCELLED);
            }
        }
    }
};

// What decoded pixels are (PS3.3 C.7.6.3.1).
struct Pixels {
    // Bytes of the frame: rows, one behind the other, without padding, little endian.
    std::uint64_t length;
    std::uint16_t rows;
    std::uint16_t columns;
    std::uint16_t samples_per_pixel;
    std::uint16_t bits_allocated;
    std::uint16_t bits_stored;
    std::uint16_t high_bit;
    // 1 for signed.
    std::uint16_t pixel_representation;
    // 0 for the samples of a pixel together.
    std::uint16_t planar_configuration;
    std::string photometric_interpretation;
};

// A frame, decoded. Until the reader is gone, its bytes count among those that one engine hands out at once.
struct DecodedFrame {
    Pixels pixels;
    Reader reader;

    std::vector<std::uint8_t> read_all() { return reader.read_all(static_cast<std::size_t>(pixels.length)); }
};

// Reads single frames of an instance. They are counted from 1.
class Frames : public detail::Handle<pacs_frames, pacs_frames_free> {
public:
    Frames(std::shared_ptr<pacs_context> context, pacs_frames *raw, std::uint32_t count) noexcept
        : Handle(std::move(context), raw), count_(count) {}

    std::uint32_t count() const noexcept { return count_; }

    // A frame as it is stored.
    Reader read(std::uint32_t number) const {
        pacs_reader *raw = nullptr;
        check(pacs_frames_read(get(), number, &raw));
        return Reader(context(), raw);
    }

    DecodedFrame decode(std::uint32_t number) const {
        auto c = detail::sized<pacs_pixels>();
        pacs_reader *raw = nullptr;
        check(pacs_frames_decode(get(), number, &c, &raw));
        Reader reader(context(), raw);
        return {{c.length, c.rows, c.columns, c.samples_per_pixel, c.bits_allocated, c.bits_stored, c.high_bit,
                 c.pixel_representation, c.planar_configuration, c.photometric_interpretation},
                std::move(reader)};
    }

private:
    std::uint32_t count_;
};

// De-identifies instances by a profile, within a project (PS3.15 annex E). `settings` is TOML, as `pacs_deidentifier_new`
// takes it.
class Deidentifier : public detail::Handle<pacs_deidentifier, pacs_deidentifier_free> {
public:
    Deidentifier(const Context &context, const std::string &settings)
        : Handle(context.context(), make(context, settings)) {}

private:
    static pacs_deidentifier *make(const Context &context, const std::string &settings) {
        pacs_deidentifier *raw = nullptr;
        context.check(pacs_deidentifier_new(context.get(), settings.c_str(), &raw));
        return raw;
    }
};

// An instance that is de-identified as it is read, by its other UIDs.
struct Deidentified {
    std::string study;
    std::string series;
    std::string instance;
    std::string sop_class;
    std::string transfer_syntax;
    // The patient's pseudonym; empty where there is no Patient ID.
    std::string patient;
    Reader reader;
};

// What picture is asked for.
struct Picture {
    // From 1; 0 for the one that stands for all.
    std::uint32_t frame = 0;
    PictureFormat format = PictureFormat::Png;
    // Of JPEG, 1 to 100; 0 for 90.
    std::uint32_t quality = 0;
    // What it is to fit into; 0 and 0 for the frame's own size.
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    // As in "40,400,linear"; empty for the instance's own.
    std::string window = {};
};

// What is known of an instance.
struct InstanceInfo {
    std::string study;
    std::string series;
    std::string instance;
    std::string sop_class;
    // As it is stored.
    std::string transfer_syntax;
    // Bytes of the stored file.
    std::uint64_t length;
    // Where in it the data set begins.
    std::uint64_t data_set_offset;
    // When it was stored.
    std::chrono::system_clock::time_point received;
    // Earlier versions that are kept.
    std::uint64_t earlier_versions;
};

// An instance that is kept, as it was when it was looked up.
class Instance : public detail::Handle<pacs_instance, pacs_instance_free> {
public:
    using Handle::Handle;

    InstanceInfo info() const {
        auto c = detail::sized<pacs_instance_info>();
        check(pacs_instance_get_info(get(), &c));
        std::chrono::system_clock::time_point received{std::chrono::milliseconds(c.received)};
        return {c.study,  c.series,          c.instance, c.sop_class,       c.transfer_syntax,
                c.length, c.data_set_offset, received,   c.earlier_versions};
    }

    // All attributes but bulk data, as they leave.
    DataSet header(const Source &source = {}) const {
        pacs_data_set *raw = nullptr;
        check(pacs_instance_header(get(), detail::CSource(source), &raw));
        return DataSet(context(), raw);
    }

    Reader open(Form form = Form::File, const Source &source = {}) const {
        pacs_reader *raw = nullptr;
        check(pacs_instance_open(get(), detail::CSource(source), static_cast<std::int32_t>(form), &raw));
        return Reader(context(), raw);
    }

    // Hands everything to `sink`, piece by piece.
    void read(const Sink &sink, Form form = Form::File, const Source &source = {}) const {
        detail::Guarded<Sink> guarded(sink);
        Status status = pacs_instance_read(
            get(), detail::CSource(source), static_cast<std::int32_t>(form),
            [](void *user, const void *bytes, std::size_t length) noexcept -> std::int32_t {
                return !static_cast<decltype(guarded) *>(user)->call(BytesView(bytes, length));
            },
            &guarded);
        guarded.rethrow();
        check(status);
    }

    std::vector<std::uint8_t> read_all(Form form = Form::File, const Source &source = {}) const {
        return open(form, source).read_all(static_cast<std::size_t>(info().length));
    }

    // A range of the stored file; shorter where that ends before.
    std::vector<std::uint8_t> read_range(std::uint64_t offset, std::size_t length, const Source &source = {}) const {
        std::uint64_t whole = info().length;
        std::uint64_t there = offset < whole ? whole - offset : 0;
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(std::min<std::uint64_t>(length, there)));
        std::size_t read = 0;
        if (!found(pacs_instance_read_range(get(), detail::CSource(source), offset, bytes.data(), bytes.size(), &read),
                   PACS_END)) {
            read = 0;
        }
        bytes.resize(read);
        return bytes;
    }

    // De-identified; the stored bytes stay as they are. `form` is Form::File or Form::DataSet. Throws PACS_REFUSED where
    // the profile refuses the instance.
    Deidentified deidentify(const Deidentifier &by, Form form = Form::File, const Source &source = {}) const {
        auto c = detail::sized<pacs_deidentified>();
        pacs_reader *raw = nullptr;
        check(pacs_instance_deidentify(get(), detail::CSource(source), by.get(), static_cast<std::int32_t>(form), &c,
                                       &raw));
        Reader reader(context(), raw);
        return {c.study, c.series, c.instance, c.sop_class, c.transfer_syntax, c.patient, std::move(reader)};
    }

    // Throws PACS_NOT_FOUND where there is no pixel data.
    Frames frames(const Source &source = {}) const {
        pacs_frames *raw = nullptr;
        std::uint32_t count = 0;
        check(pacs_frames_open(get(), detail::CSource(source), &raw, &count));
        return Frames(context(), raw, count);
    }

    // Draws a frame, as a viewer shows it.
    Reader render(const Picture &picture = {}, const Source &source = {}) const {
        auto c = detail::sized<pacs_picture>();
        c.frame = picture.frame;
        c.format = static_cast<std::int32_t>(picture.format);
        c.quality = picture.quality;
        c.width = picture.width;
        c.height = picture.height;
        c.window = picture.window.empty() ? nullptr : picture.window.c_str();
        pacs_reader *raw = nullptr;
        check(pacs_instance_render(get(), detail::CSource(source), &c, &raw));
        return Reader(context(), raw);
    }
};

// Instances, one after the other: range-for goes over them once.
class Instances : public detail::Handle<pacs_instances, pacs_instances_free>,
                  public detail::Once<Instances, Instance> {
public:
    using Handle::Handle;

    std::optional<Instance> next() {
        pacs_instance *raw = nullptr;
        if (!found(pacs_instances_next(get(), &raw), PACS_END)) {
            return std::nullopt;
        }
        return Instance(context(), raw);
    }
};

// An instance that was stored.
struct Stored {
    Outcome outcome;
    // The warning that its sender is to be answered with (PS3.4 B.2.3), 0 for none.
    std::uint16_t warning;
    std::string study;
    std::string series;
    std::string instance;

    explicit Stored(const pacs_stored &c)
        : outcome(static_cast<Outcome>(c.outcome)), warning(c.warning), study(c.study), series(c.series),
          instance(c.instance) {}
};

// An instance on its way in, in pieces. One that is not committed is given up.
class Receipt : public detail::Handle<pacs_receipt, pacs_receipt_abort> {
public:
    using Handle::Handle;

    void write(BytesView bytes) { check(pacs_receipt_write(get(), bytes.data(), bytes.size())); }

    // When it returns, the instance is on stable storage and a query finds it. Ends the receipt, also when it fails.
    Stored commit() {
        auto c = detail::sized<pacs_stored>();
        check(pacs_receipt_commit(release(), &c));
        return Stored(c);
    }

    // Nothing of it is kept.
    void abort() { check(pacs_receipt_abort(release())); }
};

// How much is kept.
struct Totals {
    std::uint64_t patients;
    std::uint64_t studies;
    std::uint64_t series;
    std::uint64_t instances;
    std::uint64_t bytes;
};

// What a verification found.
struct Verified {
    std::uint64_t whole;
    std::uint64_t damaged;
};

// What an amendment came to: a number of instances each.
struct Amended {
    std::uint64_t amended;
    std::uint64_t unchanged;
    std::uint64_t failed;
};

// An association that a peer asks for.
struct Associating {
    Source source;
    // Of the user identity (PS3.7 D.3.3.7): 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JSON web
    // token; 0 for none.
    std::uint32_t identity_type;
    // User name, ticket, assertion or token; valid during the call.
    BytesView identity;
    // With type 2; valid during the call.
    BytesView passcode;
};

// An instance whose bytes have arrived and that is about to be kept.
struct Arriving {
    Source source;
    std::string study;
    std::string series;
    std::string instance;
    // What stands before its pixel data. Lent for the call: copy() what you keep.
    const DataSet &header;
    // Empty: what is put here takes the place of what came. Lent for the call, and not to be moved away.
    DataSet &changes;
};

// A query that is about to be asked.
struct Asking {
    Source source;
    Level level;
    // Lent for the call: copy() what you keep.
    const DataSet &keys;
    // Empty: keys that are put here must match too. Lent for the call, and not to be moved away.
    DataSet &restriction;
};

// An instance that is about to be handed out.
struct Retrieving {
    Source source;
    std::string study;
    std::string series;
    std::string instance;
    std::string sop_class;
};

// Something that happened and is durable.
struct Event {
    EventKind kind;
    // Who sent the instance; empty where nobody did.
    Source source;
    std::string study;
    std::string series;
    std::string instance;
    // Of an instance that was stored.
    Outcome outcome;
    // AE title that a routed instance goes to; empty where nothing is routed.
    std::string destination;
};

// An instance that was stored, and of which it is to be decided where it goes.
struct Routing {
    Source source;
    std::string study;
    std::string series;
    std::string instance;
    std::string sop_class;
    // What is searched of it and of what is above it. Lent for the call: copy() what you keep.
    const DataSet &attributes;
};

// Functions that take part in what an engine does, on whatever thread that happens: by several at once. Those that
// are empty are not asked.
//
// The first four decide. To return is yes; to throw is no: what is answered then is status and text of a pacs::Error,
// cut to 64 bytes, and PACS_INTERNAL without a text for whatever else is thrown, since that may hold patient data.
// The text of an Error must not. They should answer quickly.
//
// They are moved into the engine and destroyed, on some thread, when the engine and everything that came from it is
// gone, or when it could not be opened. So what they use must live that long: let them hold it by a std::shared_ptr.
// The Engine itself they may use by reference, never own: it would wait for itself.
struct Hooks {
    // Whether an association is accepted by a server of this engine. PACS_OUT_OF_RESOURCES rejects it for now, all else
    // for good; the peer gets no text.
    std::function<void(const Associating &)> associate = {};
    // Whether an instance is kept, and with which changes.
    std::function<void(const Arriving &)> before_store = {};
    // Whether a query is asked, and of which part of what is kept.
    std::function<void(const Asking &)> before_find = {};
    // Whether an instance is handed out.
    std::function<void(const Retrieving &)> before_retrieve = {};
    // Told what happened, one event after the other. The engine waits for it: what changes the engine throws
    // PACS_REFUSED in it. What it throws itself is dropped.
    std::function<void(const Event &)> happened = {};
    // Where an instance goes that was stored: AE titles, at most PACS_ROUTES_MAX. It only decides: `happened` is told of
    // each, and whoever sends acts on that. What it throws is dropped, and the instance goes nowhere.
    std::function<std::vector<std::string>(const Routing &)> route = {};
};

namespace detail {

inline std::string text_or_empty(const char *text) { return text ? text : ""; }

inline Source source_of(const pacs_source *c) {
    return c ? Source{text_or_empty(c->calling_ae), text_or_empty(c->called_ae), text_or_empty(c->address)} : Source{};
}

// A data set that is the library's, in an object of ours.
class Lent {
public:
    Lent(const std::shared_ptr<pacs_context> &context, const pacs_data_set *raw) noexcept
        : set_(context, const_cast<pacs_data_set *>(raw)) {}
    Lent(const Lent &) = delete;
    Lent &operator=(const Lent &) = delete;
    ~Lent() { set_.release(); }

    DataSet &operator*() noexcept { return set_; }

private:
    DataSet set_;
};

// The hooks of one engine, as C has them: this is `user` there.
class Hooked {
public:
    Hooked(std::shared_ptr<pacs_context> context, Hooks hooks) noexcept
        : context_(std::move(context)), hooks_(std::move(hooks)) {}

    // Gives itself to the library.
    static pacs_hooks give(std::unique_ptr<Hooked> hooked) noexcept {
        auto c = sized<pacs_hooks>();
        const Hooks &hooks = hooked->hooks_;
        if (hooks.associate) {
            c.associate = [](void *user, const pacs_associating *given) noexcept {
                return decide(nullptr, [&] {
                    self(user).hooks_.associate({source_of(given->source), given->identity_type,
                                                 BytesView(given->identity, given->identity_length),
                                                 BytesView(given->passcode, given->passcode_length)});
                });
            };
        }
        if (hooks.before_store) {
            c.before_store = [](void *user, const pacs_arriving *given, char *reason) noexcept {
                return decide(reason, [&] {
                    Lent header(self(user).context_, given->header), changes(self(user).context_, given->changes);
                    self(user).hooks_.before_store(
                        {source_of(given->source), given->study, given->series, given->instance, *header, *changes});
                });
            };
        }
        if (hooks.before_find) {
            c.before_find = [](void *user, const pacs_asking *given, char *reason) noexcept {
                return decide(reason, [&] {
                    Lent keys(self(user).context_, given->keys), restriction(self(user).context_, given->restriction);
                    self(user).hooks_.before_find(
                        {source_of(given->source), static_cast<Level>(given->level), *keys, *restriction});
                });
            };
        }
        if (hooks.before_retrieve) {
            c.before_retrieve = [](void *user, const pacs_retrieving *given, char *reason) noexcept {
                return decide(reason, [&] {
                    self(user).hooks_.before_retrieve(
                        {source_of(given->source), given->study, given->series, given->instance, given->sop_class});
                });
            };
        }
        if (hooks.happened) {
            c.happened = [](void *user, const pacs_event *given) noexcept {
                decide(nullptr, [&] {
                    self(user).hooks_.happened({static_cast<EventKind>(given->kind), source_of(given->source),
                                                given->study, given->series, given->instance,
                                                static_cast<Outcome>(given->outcome),
                                                text_or_empty(given->destination)});
                });
            };
        }
        if (hooks.route) {
            c.route = [](void *user, const pacs_routing *given, char(*rows)[PACS_AE_TITLE_LENGTH]) noexcept {
                std::vector<std::string> titles;
                std::int32_t decided = decide(nullptr, [&] {
                    Lent attributes(self(user).context_, given->attributes);
                    titles = self(user).hooks_.route({source_of(given->source), given->study, given->series,
                                                      given->instance, given->sop_class, *attributes});
                });
                std::uint32_t count = 0;
                for (const std::string &title : titles) {
                    if (decided == PACS_OK && count < PACS_ROUTES_MAX) {
                        // One that is too long is none, and the library says so in its log.
                        std::size_t length = title.copy(rows[count], PACS_AE_TITLE_LENGTH - 1);
                        rows[count++][title.size() == length ? length : 0] = '\0';
                    }
                }
                return count;
            };
        }
        c.destroy = detail::destroy<Hooked>;
        c.user = hooked.release();
        return c;
    }

private:
    static const Hooked &self(void *user) noexcept { return *static_cast<const Hooked *>(user); }

    // What a hook answers. Nothing may be thrown through the library.
    template <typename Hook>
    static std::int32_t decide(char *reason, const Hook &hook) noexcept {
        try {
            hook();
            return PACS_OK;
        } catch (const Error &error) {
            if (reason) {
                give_reason(reason, error.what());
            }
            // To throw is never yes.
            return error.status() == PACS_OK ? PACS_INTERNAL : error.status();
        } catch (...) {
            return PACS_INTERNAL;
        }
    }

    // As much of a text as there is room for.
    static void give_reason(char *reason, std::string_view text) noexcept {
        std::size_t length = text.size();
        if (length >= PACS_REASON_LENGTH) {
            length = PACS_REASON_LENGTH - 1;
            // Not half a character.
            while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) {
                --length;
            }
        }
        reason[text.copy(reason, length)] = '\0';
    }

    std::shared_ptr<pacs_context> context_;
    Hooks hooks_;
};

}  // namespace detail

// An open store: keeps instances, finds them and hands them out.
class Engine : public detail::Handle<pacs_engine, pacs_engine_close> {
public:
    using Handle::Handle;

    // Opens a store, and makes it where there is none. `configuration` is the TOML of pacs_engine_open.
    explicit Engine(const Context &context, const std::string &configuration = {}, Hooks hooks = {})
        : Handle(context.context(), open(context, configuration, std::move(hooks))) {}

    // Finishes what was accepted and makes the index durable; the destructor does the same, and drops an error.
    void close() {
        Status status = pacs_engine_close(get());
        // In a callback that the engine waits for it stays open.
        if (status != PACS_REFUSED) {
            release();
        }
        check(status);
    }

    // When it returns, the instance is on stable storage and a query finds it.
    Stored store(BytesView bytes, const Source &source = {}) {
        auto c = detail::sized<pacs_stored>();
        check(pacs_store(get(), detail::CSource(source), bytes.data(), bytes.size(), &c));
        return Stored(c);
    }

    Stored store_file(const std::string &path, const Source &source = {}) {
        auto c = detail::sized<pacs_stored>();
        check(pacs_store_file(get(), detail::CSource(source), path.c_str(), &c));
        return Stored(c);
    }

    // One that was made in memory. It says what it is: SOP Class, SOP Instance, Study and Series Instance UID.
    Stored store(const DataSet &set, const Source &source = {}) {
        auto c = detail::sized<pacs_stored>();
        check(pacs_store_data_set(get(), detail::CSource(source), set.get(), &c));
        return Stored(c);
    }

    // Begins an instance whose file comes in pieces.
    Receipt receive(const Source &source = {}) {
        pacs_receipt *raw = nullptr;
        check(pacs_receive(get(), detail::CSource(source), &raw));
        return Receipt(context(), raw);
    }

    // `flags` are PACS_FIND_..., added up.
    Matches find(Level level, const DataSet &keys, std::uint32_t flags = 0, const Source &source = {}) const {
        pacs_matches *raw = nullptr;
        check(pacs_find(get(), detail::CSource(source), static_cast<std::int32_t>(level), keys.get(), flags, &raw));
        return Matches(context(), raw);
    }

    std::optional<Instance> lookup(const std::string &sop_instance_uid) const {
        pacs_instance *raw = nullptr;
        if (!found(pacs_lookup(get(), sop_instance_uid.c_str(), &raw))) {
            return std::nullopt;
        }
        return Instance(context(), raw);
    }

    // Everything that is kept, or what is kept of one patient, study or series.
    Instances walk(Level level = Level::All, const std::string &id = {}) const {
        pacs_instances *raw = nullptr;
        check(pacs_walk(get(), static_cast<std::int32_t>(level), id.c_str(), &raw));
        return Instances(context(), raw);
    }

    Totals totals() const {
        auto c = detail::sized<pacs_totals>();
        check(pacs_engine_totals(get(), &c));
        return {c.patients, c.studies, c.series, c.instances, c.bytes};
    }

    // Removes a patient, a study, a series or an instance; answers how many instances that were.
    std::uint64_t remove(Level level, const std::string &id) {
        std::uint64_t removed = 0;
        check(pacs_engine_remove(get(), static_cast<std::int32_t>(level), id.c_str(), &removed));
        return removed;
    }

    // Corrects attributes of a patient, a study, a series or an instance: queries find the new values, and the
    // instances leave with them. The stored bytes stay. One that can't be amended costs no other: `failed` is told.
    Amended amend(Level level, const std::string &id, const DataSet &wanted, const Damaged &failed = {},
                  const Source &source = {}) {
        return amended(failed, [&](pacs_damaged tell, void *user, pacs_amended *c) {
            return pacs_engine_amend(get(), detail::CSource(source), static_cast<std::int32_t>(level), id.c_str(),
                                     wanted.get(), tell, user, c);
        });
    }

    // Makes one patient of two: all that is kept of the prior one becomes the surviving one's.
    Amended merge_patients(const std::string &prior, const std::string &surviving, const Damaged &failed = {},
                           const Source &source = {}) {
        return amended(failed, [&](pacs_damaged tell, void *user, pacs_amended *c) {
            return pacs_engine_merge_patients(get(), detail::CSource(source), prior.c_str(), surviving.c_str(), tell,
                                              user, c);
        });
    }

    // Makes the index durable up to now. No instance depends on it.
    void checkpoint() { check(pacs_engine_checkpoint(get())); }

    // Compares everything that is kept with its checksums.
    Verified verify(const Progress &progress = {}, const Damaged &damaged = {}) {
        struct Both {
            detail::Guarded<Progress> progress;
            detail::Guarded<Damaged> damaged;
        };
        Both both{detail::Guarded<Progress>(progress), detail::Guarded<Damaged>(damaged)};
        auto c = detail::sized<pacs_verification>();
        c.user = &both;
        if (progress) {
            c.progress = [](void *user, std::uint64_t done) noexcept -> std::int32_t {
                return !static_cast<Both *>(user)->progress.call(done);
            };
        }
        if (damaged) {
            c.damaged = [](void *user, const char *instance, const char *why) noexcept {
                static_cast<Both *>(user)->damaged.call(std::string_view(instance), std::string_view(why));
            };
        }
        Verified verified{};
        Status status = pacs_engine_verify(get(), &c, &verified.whole, &verified.damaged);
        both.progress.rethrow();
        both.damaged.rethrow();
        check(status);
        return verified;
    }

private:
    template <typename Call> Amended amended(const Damaged &failed, Call call) {
        detail::Guarded<Damaged> guarded(failed);
        auto c = detail::sized<pacs_amended>();
        pacs_damaged tell = nullptr;
        if (failed) {
            tell = [](void *user, const char *instance, const char *why) noexcept {
                static_cast<detail::Guarded<Damaged> *>(user)->call(std::string_view(instance), std::string_view(why));
            };
        }
        Status status = call(tell, &guarded, &c);
        guarded.rethrow();
        check(status);
        return {c.amended, c.unchanged, c.failed};
    }

    static pacs_engine *open(const Context &context, const std::string &configuration, Hooks hooks) {
        // A context that was moved from: C would not even look at the hooks, and not destroy them.
        if (!context.get()) {
            throw Error(PACS_BAD_HANDLE);
        }
        auto parts = detail::sized<pacs_parts>();
        auto table = detail::sized<pacs_hooks>();
        if (hooks.associate || hooks.before_store || hooks.before_find || hooks.before_retrieve || hooks.happened ||
            hooks.route) {
            // From here on they are the library's, also when it fails.
            table = detail::Hooked::give(std::make_unique<detail::Hooked>(context.context(), std::move(hooks)));
            parts.hooks = &table;
        }
        pacs_engine *raw = nullptr;
        context.check(pacs_engine_open(context.get(), configuration.c_str(), &parts, &raw));
        return raw;
    }
};

namespace detail {

// How a server ends whose object is destroyed.
inline Status stop_at_once(pacs_server *server) noexcept { return pacs_server_stop(server, 0); }

}  // namespace detail

// A server that runs on an engine, and on the threads of its context: with a polled one, inside Context::poll alone.
// The destructor stops it and breaks off what runs. Stop it before the engine is closed: declare it behind the Engine.
class Server : public detail::Handle<pacs_server, detail::stop_at_once> {
public:
    using Handle::Handle;

    // Verification, Storage, Query/Retrieve. `configuration` is the TOML of pacs_dicom_start.
    static Server dicom(Engine &engine, const std::string &configuration = {}) {
        return start(engine, pacs_dicom_start, configuration);
    }

    // DICOMweb, WADO-URI and what monitors ask. `configuration` is the TOML of pacs_web_start.
    static Server web(Engine &engine, const std::string &configuration = {}) {
        return start(engine, pacs_web_start, configuration);
    }

    // The TCP port that it listens on.
    std::uint16_t port() const {
        std::uint16_t port = 0;
        check(pacs_server_port(get(), &port));
        return port;
    }

    // Accepts nothing new any more, lets what runs go on for `grace`, and breaks it off then. Ends the server, also
    // when it fails.
    void stop(std::chrono::milliseconds grace = {}) {
        check(pacs_server_stop(release(), detail::milliseconds(grace)));
    }

private:
    static Server start(Engine &engine, Status (*start)(pacs_engine *, const char *, pacs_server **),
                        const std::string &configuration) {
        pacs_server *raw = nullptr;
        if (Status status = start(engine.get(), configuration.c_str(), &raw); status != PACS_OK) {
            throw Error(status, engine.context().get());
        }
        return Server(engine.context(), raw);
    }
};

// Ends calls to peers from another thread: those that were given it, now and later.
class Cancel : public detail::Handle<pacs_cancel, pacs_cancel_free> {
public:
    using Handle::Handle;

    explicit Cancel(const Context &context) : Handle(context.context(), make(context)) {}

    void now() const { check(pacs_cancel_now(get())); }

private:
    static pacs_cancel *make(const Context &context) {
        pacs_cancel *raw = nullptr;
        context.check(pacs_cancel_new(context.get(), &raw));
        return raw;
    }
};

// How far a transfer has come, and at its end what came of it.
struct Counts {
    std::uint64_t completed = 0;
    std::uint64_t failed = 0;
    // Transferred, with a warning.
    std::uint64_t warnings = 0;
    // Still to come, as far as it is known.
    std::uint64_t remaining = 0;
    // The last status of the peer (PS3.7 annex C); 0 is success, or that it answered none.
    std::uint16_t dimse_status = 0;
};

// Told how far a transfer has come; true to go on, false to end the call with PACS_CANCELLED.
using Counting = std::function<bool(const Counts &)>;
// Takes a match, which is lent for the call: copy() what you keep. True to go on, false to end the call with
// PACS_CANCELLED.
using Matched = std::function<bool(const DataSet &)>;

// How a call to a peer goes on. Its callbacks come on the thread of the call.
struct Operation {
    // The whole call ends after so long with PACS_TIMED_OUT; 0 for no such limit.
    std::chrono::milliseconds timeout = {};
    const Cancel *cancel = nullptr;
    // Of Remote::move, get and send.
    Counting counting = {};
};

// Why a call to a peer failed.
class RemoteError : public Error {
public:
    RemoteError(Status status, const pacs_context *context, const Counts &counts)
        : Error(status, context), counts_(counts) {}

    // What came of it nevertheless, and what the peer answered.
    const Counts &counts() const noexcept { return counts_; }

private:
    Counts counts_;
};

// A peer application entity. Each call opens an association, blocks until it is done and releases it. May be used from
// any thread, and from many at once. What fails throws RemoteError; some instances that could not be transferred are no
// failure but stand in Counts.
class Remote {
public:
    Remote(const Context &context, std::string host, std::uint16_t port, std::string called_ae, std::string calling_ae)
        : context_(context.context()), host_(std::move(host)), called_ae_(std::move(called_ae)),
          calling_ae_(std::move(calling_ae)), port_(port) {}

    // Verification. Answers what the peer did: 0, or a warning.
    std::uint16_t echo(const Operation &operation = {}) const {
        COperation c(operation);
        pacs_remote remote = this->remote();
        std::uint16_t dimse_status = 0;
        return answer(pacs_remote_echo(context_.get(), &remote, c, &dimse_status), dimse_status);
    }

    // Asks it. Keys with a value must match, those without one are returned.
    void find(Model model, Level level, const DataSet &keys, const Matched &matched,
              const Operation &operation = {}) const {
        struct Call {
            const std::shared_ptr<pacs_context> &context;
            detail::Guarded<Matched> matched;
        };
        Call call{context_, detail::Guarded<Matched>(matched)};
        COperation c(operation);
        pacs_remote remote = this->remote();
        Status status = pacs_remote_find(
            context_.get(), &remote, c, static_cast<std::int32_t>(model), static_cast<std::int32_t>(level), keys.get(),
            [](void *user, const pacs_data_set *found) noexcept -> std::int32_t {
                auto *self = static_cast<Call *>(user);
                detail::Lent lent(self->context, found);
                return !self->matched.call(*lent);
            },
            &call);
        call.matched.rethrow();
        check(status, context_.get());
    }

    // Has it send what the UIDs in `keys` name to an AE title that it knows (C-MOVE).
    Counts move(Model model, Level level, const DataSet &keys, const std::string &destination,
                const Operation &operation = {}) const {
        COperation c(operation);
        pacs_remote remote = this->remote();
        auto counts = detail::sized<pacs_counts>();
        Status status =
            pacs_remote_move(context_.get(), &remote, c, static_cast<std::int32_t>(model),
                             static_cast<std::int32_t>(level), keys.get(), destination.c_str(), &counts);
        return result(status, context_.get(), c, counts);
    }

    // Fetches what the UIDs in `keys` name into an engine (C-GET).
    Counts get(Engine &engine, Model model, Level level, const DataSet &keys, const Operation &operation = {}) const {
        COperation c(operation);
        pacs_remote remote = this->remote();
        auto counts = detail::sized<pacs_counts>();
        Status status = pacs_remote_get(engine.get(), &remote, c, static_cast<std::int32_t>(model),
                                        static_cast<std::int32_t>(level), keys.get(), &counts);
        return result(status, engine.context().get(), c, counts);
    }

    // Sends it everything of a patient, a study or a series, or an instance (C-STORE).
    Counts send(const Engine &engine, Level level, const std::string &id, const Operation &operation = {}) const {
        COperation c(operation);
        pacs_remote remote = this->remote();
        auto counts = detail::sized<pacs_counts>();
        Status status =
            pacs_remote_send(engine.get(), &remote, c, static_cast<std::int32_t>(level), id.c_str(), &counts);
        return result(status, engine.context().get(), c, counts);
    }

    // Sends it a DICOM file, as it is (C-STORE). Answers what the peer did: 0, or a warning.
    std::uint16_t store_file(const std::string &path, const Operation &operation = {}) const {
        COperation c(operation);
        pacs_remote remote = this->remote();
        std::uint16_t dimse_status = 0;
        return answer(pacs_remote_store_file(context_.get(), &remote, c, path.c_str(), &dimse_status), dimse_status);
    }

private:
    static Counts counts_of(const pacs_counts &c) noexcept {
        return {c.completed, c.failed, c.warnings, c.remaining, c.dimse_status};
    }

    // An Operation as C takes it; valid as long as that is.
    class COperation {
    public:
        explicit COperation(const Operation &operation) noexcept : counting_(operation.counting) {
            // A time that is over is no time without end.
            c_.timeout_milliseconds =
                operation.timeout.count() == 0 ? 0 : std::max(detail::milliseconds(operation.timeout), 1u);
            c_.cancel = operation.cancel ? operation.cancel->get() : nullptr;
            if (operation.counting) {
                c_.counting = [](void *user, const pacs_counts *counts) noexcept -> std::int32_t {
                    return !static_cast<detail::Guarded<Counting> *>(user)->call(counts_of(*counts));
                };
                c_.user = &counting_;
            }
        }
        COperation(const COperation &) = delete;
        COperation &operator=(const COperation &) = delete;

        operator const pacs_operation *() const noexcept { return &c_; }
        void rethrow() const { counting_.rethrow(); }

    private:
        detail::Guarded<Counting> counting_;
        pacs_operation c_ = detail::sized<pacs_operation>();
    };

    pacs_remote remote() const noexcept {
        auto c = detail::sized<pacs_remote>();
        c.host = host_.c_str();
        c.called_ae = called_ae_.c_str();
        c.calling_ae = calling_ae_.c_str();
        c.port = port_;
        return c;
    }

    static void check(Status status, const pacs_context *context, const Counts &counts = {}) {
        if (status != PACS_OK) {
            throw RemoteError(status, context, counts);
        }
    }

    std::uint16_t answer(Status status, std::uint16_t dimse_status) const {
        Counts counts;
        counts.dimse_status = dimse_status;
        check(status, context_.get(), counts);
        return dimse_status;
    }

    static Counts result(Status status, const pacs_context *context, const COperation &operation,
                         const pacs_counts &counts) {
        operation.rethrow();
        check(status, context, counts_of(counts));
        return counts_of(counts);
    }

    std::shared_ptr<pacs_context> context_;
    std::string host_;
    std::string called_ae_;
    std::string calling_ae_;
    std::uint16_t port_;
};

// What a rebuild did. Where something is missing, the old index is kept; where it was not compared, more may be.
struct Rebuilt {
    std::uint64_t instances;
    std::uint64_t unreadable;
    std::uint64_t missing;
    bool compared;
};

// Makes the index of a store that is not open anew from its archive alone.
inline Rebuilt rebuild_index(const Context &context, const std::string &configuration = {}) {
    pacs_rebuilt c{};
    c.struct_size = sizeof c;
    context.check(pacs_rebuild_index(context.get(), configuration.c_str(), &c));
    return {c.instances, c.unreadable, c.missing, c.compared != 0};
}

// The version of the library as text.
inline std::string_view version() noexcept { return pacs_version(); }

}  // namespace pacs

#endif  // PACS_HPP
