// The table of the monitor against the conformance table and its own README.

#include "devices/virtio_msg/monitor/rows.h"

#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

struct ConformanceRow {
  std::string level;
  std::string binds;
};

std::map<std::string, ConformanceRow> ConformanceTable() {
  std::map<std::string, ConformanceRow> rows;
  for (const auto line :
       absl::StrSplit(ReadFile("tests/conformance/table.txt"), '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, " | ");
    if (fields.size() != 7) continue;
    rows[fields[0]] = {fields[1] == "-" ? "FACT" : fields[1], fields[2]};
  }
  return rows;
}

TEST(RowsTest, EveryRowThatBindsADriverIsAccountedFor) {
  std::map<std::string, const RowEntry*> entries;
  for (const RowEntry& entry : RowTable()) {
    EXPECT_TRUE(entries.emplace(entry.id, &entry).second) << entry.id;
    EXPECT_FALSE(entry.note.empty()) << entry.id;
  }
  int bound = 0;
  for (const auto& [id, row] : ConformanceTable()) {
    if (row.binds != "driver" && row.binds != "driver or bus" &&
        row.binds != "all") {
      continue;
    }
    ++bound;
    EXPECT_TRUE(entries.contains(id)) << id;
  }
  // 74 of drivers, 2 of driver or bus, 1 of all, and 7 facts.
  EXPECT_EQ(bound, 84);
}

TEST(RowsTest, EntriesAreRowsWithTheirLevel) {
  const std::map<std::string, ConformanceRow> rows = ConformanceTable();
  for (const RowEntry& entry : RowTable()) {
    const auto row = rows.find(std::string(entry.id));
    ASSERT_NE(row, rows.end()) << entry.id;
    EXPECT_EQ(entry.level, row->second.level) << entry.id;
    EXPECT_EQ(entry.verdict == RowVerdict::kMayOnly,
              entry.level == "MAY" || entry.id == "FACT-PING-1")
        << entry.id;
  }
}

TEST(RowsTest, SharedRowsNameOneThatIsThere) {
  std::set<std::string_view> ids;
  for (const RowEntry& entry : RowTable()) ids.insert(entry.id);
  for (const RowEntry& entry : RowTable()) {
    if (entry.verdict != RowVerdict::kShared || entry.id == "DRV-REV-1") {
      continue;
    }
    ASSERT_EQ(entry.note.substr(0, 5), "with ") << entry.id;
    EXPECT_TRUE(ids.contains(entry.note.substr(5))) << entry.id;
  }
}

TEST(RowsTest, EachRowOfTheEnumHasItsEntry) {
  // The name of the enumerator is the id without dashes; the order is what
  // RowId() goes by.
  std::vector<std::string> checked;
  for (const RowEntry& entry : RowTable()) {
    if (entry.verdict == RowVerdict::kChecked) checked.emplace_back(entry.id);
  }
  std::string names;
  for (const std::string& id : checked) {
    for (const auto part : absl::StrSplit(id, '-')) {
      std::string word = absl::AsciiStrToLower(part);
      word[0] = absl::ascii_toupper(static_cast<unsigned char>(word[0]));
      absl::StrAppend(&names, word);
    }
    absl::StrAppend(&names, "\n");
  }
  std::string declared;
  const std::string header = ReadFile("devices/virtio_msg/monitor/rows.h");
  const size_t begin = header.find("enum class Row : uint8_t {");
  for (const auto line : absl::StrSplit(
           header.substr(begin, header.find("};", begin) - begin), '\n')) {
    const auto name = absl::StripAsciiWhitespace(line);
    if (name.empty() || name[0] != 'k') continue;
    absl::StrAppend(&declared, name.substr(1, name.size() - 2), "\n");
  }
  EXPECT_EQ(declared, names);
}

TEST(RowsTest, ReadmeHasTheTable) {
  std::string table = "| Row | Level | Verdict | |\n|---|---|---|---|\n";
  for (const RowEntry& entry : RowTable()) {
    absl::StrAppend(&table, "| ", std::string(entry.id), " | ",
                    std::string(entry.level), " | ",
                    std::string(RowVerdictName(entry.verdict)), " | ",
                    std::string(entry.note), " |\n");
  }
  const std::string readme = ReadFile("devices/virtio_msg/monitor/README.md");
  EXPECT_NE(readme.find(table), std::string::npos) << "README.md should have:\n"
                                                   << table;
}

}  // namespace
}  // namespace vmsg::msg
