// hold_thread: lets a thread of another process stand still.
//
//   hold_thread PID NAME
//
// NAME is what the thread calls itself (/proc/PID/task/*/comm). Says "held"
// when it stands, and holds it until either of both processes ends; so a signal
// ends this one. A signal that stops processes would stop all of PID's threads.

#include <dirent.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

namespace {

int Fail(const std::string& what) {
  std::perror(what.c_str());
  return 1;
}

// The first thread with this name, or 0.
pid_t FindThread(const std::string& process, const std::string& name) {
  const std::string folder = "/proc/" + process + "/task";
  DIR* const dir = opendir(folder.c_str());
  if (dir == nullptr) return 0;
  pid_t found = 0;
  while (const dirent* entry = readdir(dir)) {
    std::ifstream file(folder + "/" + entry->d_name + "/comm");
    std::string comm;
    if (std::getline(file, comm) && comm == name) {
      found = static_cast<pid_t>(std::atol(entry->d_name));
      break;
    }
  }
  closedir(dir);
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("hold_thread: PID NAME\n", stderr);
    return 2;
  }
  const pid_t thread = FindThread(argv[1], argv[2]);
  if (thread == 0) {
    std::fprintf(stderr, "hold_thread: %s has no thread %s\n", argv[1],
                 argv[2]);
    return 1;
  }
  if (ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0 ||
      ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0) {
    return Fail("ptrace");
  }
  int status = 0;
  if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)) {
    return Fail("waitpid");
  }
  std::puts("held");
  std::fflush(stdout);
  waitpid(thread, &status, __WALL);
  return 0;
}
