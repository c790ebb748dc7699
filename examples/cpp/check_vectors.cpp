// Hold keyturn.hpp to the golden answers: check_vectors tests/vectors/agent.json
#include "keyturn.hpp"

#include <fstream>
#include <iostream>
#include <sstream>

using keyturn::detail::Json;

static std::string judged(const Json& all, const Json& item) {
  keyturn::Question question{all.str("product"), all.str("nonce"), std::nullopt};
  if (item["feature"].type == Json::text) question.feature = item["feature"].string;
  std::optional<keyturn::Floor> floor;
  if (item["floor"].type == Json::list) floor = {item["floor"].items[0].whole, item["floor"].items[1].string};
  std::int64_t now = item["now"].type == Json::number ? item["now"].whole : all.num("now");
  try {
    return keyturn::verify(item.str("line"), question, all.num("uid"), now, floor).edition == "pro" ? "licensed" : "edition";
  } catch (const keyturn::Error& error) {
    return error.code();
  }
}

int main(int count, char** words) {
  if (count != 2) return 2;
  std::ostringstream text;
  text << std::ifstream(words[1]).rdbuf();
  Json all = keyturn::detail::Reader::object(text.str());
  int wrong = 0, cases = 0;
  for (const char* which : {"accepted", "refused"}) {
    for (const Json& item : all.array(which)) {
      std::string wanted = std::string(which) == "accepted" ? "licensed" : item.str("code"), found = judged(all, item);
      ++cases;
      if (found == wanted) continue;
      ++wrong;
      std::cout << item.str("name") << ": " << found << ", and not " << wanted << "\n";
    }
  }
  std::cout << cases << " cases, " << wrong << " wrong\n";
  return wrong == 0 && cases > 50 ? 0 : 1;
}
