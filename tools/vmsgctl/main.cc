#include <iostream>

#include "tools/vmsgctl/command_line.h"
#include "tools/vmsgctl/run.h"

int main(int argc, char** argv) {
  const vmsg::vmsgctl::Parsed parsed =
      vmsg::vmsgctl::ParseCommandLine(argc, argv);
  std::cout << parsed.output;
  std::cerr << parsed.error;
  if (!parsed.command_line.has_value()) return parsed.exit_code;
  return vmsg::vmsgctl::Run(*parsed.command_line, std::cout, std::cerr);
}
