// Prints a plan: what it is, and its moves, one in a line.
#include <cstdint>
#include <iostream>

#include "bb_plan.hpp"

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: print_plan FILE\n";
    return 2;
  }
  try {
    const auto plan = bb::plan::read(arguments[1]);
    std::cout << (plan.has_swap() ? "swap " : "cache ") << plan.plan_id() << "\n";
    std::uint64_t total = 0;
    for (const auto& op : bb::plan::ops(plan)) {
      std::cout << bb::plan::name(op.kind()) << " " << op.length() << " bytes: " << op.src() << " +"
                << op.src_offset() << " -> " << op.dst() << " +" << op.dst_offset();
      if (op.has_digest()) {
        std::cout << " " << bb::plan::text(op.digest());
      }
      std::cout << "\n";
      total += op.length();
    }
    std::cout << bb::plan::ops(plan).size() << " ops, " << total << " bytes\n";
  } catch (const bb::plan::Error& error) {
    std::cerr << "print_plan: " << error.what() << "\n";
    return 1;
  }
}
