// Reads plans of data movements (schema bb.plan.v1) in C++17.
//
// This is a thin layer over the classes that protoc makes of plan.proto, which lies beside this
// file: it reads a plan, refuses what the Python reader refuses for its form, and gives kinds and
// digests their names. It does not say whether a plan is sound, which needs all rules of
// `bb_ir.plan.validate`, and it does not carry plans out.
//
// Needs protobuf's full runtime, as it looks at messages by reflection. Nothing here keeps state;
// all functions may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>

#include "plan.pb.h"

namespace bb::plan {

// Version of the schema that this header reads.
inline constexpr std::uint32_t schema_version = 1;
// The longest plan, in bytes.
inline constexpr std::size_t max_bytes = std::size_t{64} << 20;
// The longest text, in bytes, and the longest list. Python counts the characters of a text.
inline constexpr std::size_t max_text = 4 * 4096;
inline constexpr int max_items = 1 << 20;

// What all errors of this header are.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// A file cannot be read.
struct FileError : Error {
  using Error::Error;
};
// Bytes are no plan, or one with parts that the schema does not have.
struct FormatError : Error {
  using Error::Error;
};
// A plan is of another version of the schema.
struct VersionError : Error {
  using Error::Error;
};

namespace detail {

inline void check(const google::protobuf::Message& message, const std::string& at);

inline void check_enum(const google::protobuf::EnumDescriptor& of, int value,
                       const std::string& at) {
  if (of.FindValueByNumber(value) == nullptr) {
    throw FormatError(at + " is " + std::to_string(value) + ", which the schema does not have");
  }
}

inline void check_text(const std::string& value, const std::string& at) {
  if (value.size() > max_text) {
    throw FormatError(at + " has " + std::to_string(value.size()) + " bytes, more than " +
                      std::to_string(max_text));
  }
}

inline void check_field(const google::protobuf::Message& message,
                        const google::protobuf::FieldDescriptor& field, const std::string& at) {
  using google::protobuf::FieldDescriptor;
  const auto& fields = *message.GetReflection();
  const int count = field.is_repeated() ? fields.FieldSize(message, &field) : 1;
  if (count > max_items) {
    throw FormatError(at + " has " + std::to_string(count) + " entries, more than " +
                      std::to_string(max_items));
  }
  for (int i = 0; i < count; ++i) {
    const bool many = field.is_repeated();
    const std::string here = many ? at + "[" + std::to_string(i) + "]" : at;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        check(many ? fields.GetRepeatedMessage(message, &field, i)
                   : fields.GetMessage(message, &field),
              here + ".");
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        check_enum(*field.enum_type(),
                   many ? fields.GetRepeatedEnumValue(message, &field, i)
                        : fields.GetEnumValue(message, &field),
                   here);
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        check_text(many ? fields.GetRepeatedString(message, &field, i)
                        : fields.GetString(message, &field),
                   here);
        break;
      default:
        break;  // numbers are in range by their type
    }
  }
}

// Throws unless all fields of a message, and of those in it, are of the schema.
inline void check(const google::protobuf::Message& message, const std::string& at) {
  const auto& fields = *message.GetReflection();
  if (!fields.GetUnknownFields(message).empty()) {
    throw FormatError((at.empty() ? "the plan" : at.substr(0, at.size() - 1)) +
                      " has fields that the schema lacks; read it with a newer version");
  }
  std::vector<const google::protobuf::FieldDescriptor*> given;
  fields.ListFields(message, &given);
  for (const auto* field : given) {
    check_field(message, *field, at + std::string(field->name()));
  }
}

}  // namespace detail

// Reads a plan from protobuf, as `bb_ir.plan.to_bytes` of a sealed plan writes it.
//
// Throws FormatError for what is no such plan, VersionError for one of another version.
inline v1::Plan parse(std::string_view bytes) {
  if (bytes.size() > max_bytes) {
    throw FormatError("the plan has " + std::to_string(bytes.size()) + " bytes, more than " +
                      std::to_string(max_bytes));
  }
  v1::Plan plan;
  if (!plan.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw FormatError(std::to_string(bytes.size()) + " bytes are no bb.plan.v1.Plan");
  }
  if (plan.schema_version() != schema_version) {
    throw VersionError("the plan has schema version " + std::to_string(plan.schema_version()) +
                       ", and this reads version " + std::to_string(schema_version));
  }
  detail::check(plan, "");
  if (plan.content_case() == v1::Plan::CONTENT_NOT_SET) {
    throw FormatError("the plan holds neither `cache` nor `swap`");
  }
  return plan;
}

// Reads a plan from a file.
//
// Throws FileError when there is none, else as `parse` does.
inline v1::Plan read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw FileError("cannot open " + path.string());
  }
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) {
    throw FileError("cannot read " + path.string());
  }
  return parse(bytes);
}

// Returns the moves of a plan, of whichever kind it is, in their order.
inline const google::protobuf::RepeatedPtrField<v1::TransferOp>& ops(const v1::Plan& plan) {
  return plan.has_cache() ? plan.cache().ops() : plan.swap().ops();
}

// Returns the name of a kind of move, such as "STORAGE2H"; the number when it has none.
inline std::string name(v1::TransferKind kind) {
  return v1::TransferKind_IsValid(kind) ? std::string(v1::TransferKind_Name(kind))
                                        : std::to_string(static_cast<int>(kind));
}

// Returns a digest as Python writes it: "blake3:", and two hexadecimal digits for each byte.
//
// Throws FormatError for an algorithm that there is not, or another length than 32 bytes.
inline std::string text(const v1::Digest& digest) {
  const bool blake3 = digest.algorithm() == v1::BLAKE3;
  if ((!blake3 && digest.algorithm() != v1::SHA256) || digest.value().size() != 32) {
    throw FormatError("a digest has " + std::to_string(digest.value().size()) +
                      " bytes of algorithm " + std::to_string(static_cast<int>(digest.algorithm())));
  }
  static constexpr char digits[] = "0123456789abcdef";
  std::string found = blake3 ? "blake3:" : "sha256:";
  for (const char byte : digest.value()) {
    const auto value = static_cast<unsigned char>(byte);
    found += {digits[value >> 4], digits[value & 15]};
  }
  return found;
}

// Returns a place as its scheme and its path, which is taken literally.
//
// Throws FormatError when it has no scheme.
inline std::pair<std::string_view, std::string_view> place(std::string_view text) {
  const auto mark = text.find("://");
  if (mark == std::string_view::npos) {
    throw FormatError("'" + std::string(text.substr(0, 80)) + "' is no place");
  }
  return {text.substr(0, mark), text.substr(mark + 3)};
}

}  // namespace bb::plan
