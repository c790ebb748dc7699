// A product in C++ that asks whether it is licensed: example [--socket PATH] [--feature NAME]
#include "keyturn.hpp"

#include <iostream>

#ifndef KEYTURN_PRODUCT
#error "Name the product: cmake -DKEYTURN_PRODUCT=THUMBPRINT/SLUG (keyturn service product export prints it)"
#endif

int main(int count, char** words) {
  std::string socket;
  std::optional<std::string> feature;
  for (int place = 1; place + 1 < count; place += 2) {
    if (std::string(words[place]) == "--socket") socket = words[place + 1];
    if (std::string(words[place]) == "--feature") feature = words[place + 1];
  }
  try {
    keyturn::License license = keyturn::require(KEYTURN_PRODUCT, feature, socket);
    std::cout << "licensed: " << license.edition << " (activation " << license.activation << ")\n";
    return 0;
  } catch (const keyturn::Error& error) {
    std::cout << "refused: " << error.code() << ": " << error.what() << "\n";
    return error.code() == "agent_unreachable" ? 3 : 1;
  }
}
