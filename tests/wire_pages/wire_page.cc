#include "tests/wire_pages/wire_page.h"

#include <fstream>
#include <sstream>

#include "gtest/gtest.h"

namespace vmsg {
namespace {

constexpr char kFence[] = "```";
constexpr char kStart[] = "```hex ";

bool ParseHex(const std::string& word, size_t max_digits, uint64_t* value) {
  if (word.empty() || word.size() > max_digits ||
      word.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return false;
  }
  *value = std::stoull(word, nullptr, 16);
  return true;
}

std::string Hex(std::span<const std::byte> bytes) {
  std::ostringstream text;
  text << std::hex;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i != 0) text << (i % 16 == 0 ? '\n' : ' ');
    text << (std::to_integer<int>(bytes[i]) >> 4)
         << (std::to_integer<int>(bytes[i]) & 15);
  }
  return text.str();
}

}  // namespace

WirePage WirePage::FromText(const std::string& text) {
  WirePage page;
  std::istringstream lines(text);
  std::string line;
  std::vector<Line>* example = nullptr;
  while (std::getline(lines, line)) {
    if (example == nullptr) {
      if (line.rfind(kStart, 0) != 0) continue;
      const std::string name = line.substr(sizeof(kStart) - 1);
      EXPECT_FALSE(page.examples_.contains(name)) << name << " comes twice";
      example = &page.examples_[name];
      continue;
    }
    if (line == kFence) {
      example = nullptr;
      continue;
    }
    Line parsed;
    std::istringstream words(line);
    std::string word;
    while (words >> word) {
      uint64_t value = 0;
      if (parsed.bytes.empty() && !parsed.has_address && word.back() == ':') {
        parsed.has_address = true;
        word.pop_back();
        EXPECT_TRUE(ParseHex(word, 16, &parsed.address)) << line;
        continue;
      }
      EXPECT_TRUE(word.size() == 2 && ParseHex(word, 2, &value)) << line;
      parsed.bytes.push_back(static_cast<std::byte>(value));
    }
    example->push_back(std::move(parsed));
  }
  EXPECT_EQ(example, nullptr) << "an example without end";
  return page;
}

WirePage WirePage::Open(const std::string& name) {
  std::ifstream file("docs/wire/" + name);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return FromText(text.str());
}

const std::vector<WirePage::Line>* WirePage::Find(const std::string& name) {
  compared_.insert(name);
  const auto found = examples_.find(name);
  if (found != examples_.end()) return &found->second;
  ADD_FAILURE() << "the page has no example " << name;
  return nullptr;
}

void WirePage::ExpectBytes(const std::string& name,
                           std::span<const std::byte> bytes) {
  const std::vector<Line>* const lines = Find(name);
  std::vector<std::byte> shown;
  if (lines != nullptr) {
    for (const Line& line : *lines) {
      EXPECT_FALSE(line.has_address) << name;
      shown.insert(shown.end(), line.bytes.begin(), line.bytes.end());
    }
  }
  EXPECT_EQ(Hex(shown), Hex(bytes)) << name;
}

void WirePage::ExpectPlaces(const std::string& name, const Reader& read) {
  const std::vector<Line>* const lines = Find(name);
  if (lines == nullptr) return;
  EXPECT_FALSE(lines->empty()) << name;
  for (const Line& line : *lines) {
    EXPECT_TRUE(line.has_address && !line.bytes.empty()) << name;
    EXPECT_EQ(Hex(line.bytes), Hex(read(line.address, line.bytes.size())))
        << name << " at " << std::hex << line.address;
  }
}

void WirePage::ExpectAllCompared() const {
  EXPECT_FALSE(examples_.empty());
  for (const auto& [name, lines] : examples_) {
    EXPECT_TRUE(compared_.contains(name)) << name << " is not compared";
  }
}

}  // namespace vmsg
