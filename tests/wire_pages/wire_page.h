// WirePage: the examples of a page of docs/wire, to compare with what the code
// puts on the wire.

#ifndef VMSG_TESTS_WIRE_PAGES_WIRE_PAGE_H_
#define VMSG_TESTS_WIRE_PAGES_WIRE_PAGE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace vmsg {

// An example is a fenced block whose info string is "hex NAME". Its lines are
// bytes, or "ADDRESS: bytes" for what stands at places; numbers are hexadecimal
// and two digits a byte. What is not like that, and a name that comes twice,
// fails the test that reads the page.
//
// Threads: one.
class WirePage {
 public:
  using Reader = std::function<std::vector<std::byte>(uint64_t, size_t)>;

  static WirePage FromText(const std::string& text);
  // docs/wire/`name` of the source tree.
  static WirePage Open(const std::string& name);

  // Fails the test unless the example `name` is these bytes.
  void ExpectBytes(const std::string& name, std::span<const std::byte> bytes);
  // Fails unless `read`, asked for the places of the example, finds the same
  // bytes there.
  void ExpectPlaces(const std::string& name, const Reader& read);
  // Fails when an example was compared with nothing.
  void ExpectAllCompared() const;

 private:
  struct Line {
    bool has_address = false;
    uint64_t address = 0;
    std::vector<std::byte> bytes;
  };

  const std::vector<Line>* Find(const std::string& name);

  std::map<std::string, std::vector<Line>> examples_;
  std::set<std::string> compared_;
};

}  // namespace vmsg

#endif  // VMSG_TESTS_WIRE_PAGES_WIRE_PAGE_H_
