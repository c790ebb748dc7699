// Is this copy licensed? Ask the Keyturn agent on this computer, and believe nothing that is not proven.
//
//     keyturn::License license = keyturn::require("THUMBPRINT/paintbox");      // throws keyturn::Error
//
// One header, C++17, OpenSSL 1.1.1 or newer (Ed25519, SHA-256), Linux. The protocol is docs/protocol-agent.md; the numbers in
// verify() are those of its procedure. Compile the product's name in: whoever can change the name can name another publisher.
//
// - Every document is verified before it is read; JSON is read strictly (no name twice, whole numbers, UTF-8, bounded depth).
// - Error::code() is a stable word of Keyturn's catalogue (`keyturn explain CODE`).
// - Nothing here opens a network connection, reads the store, or writes anything.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keyturn {

class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& detail) : std::runtime_error(detail), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

// What the publisher's certificate grants. Times are seconds since 1970; valid_until is empty for ever.
struct License {
  std::string edition, activation;
  std::vector<std::string> features;
  std::optional<std::int64_t> valid_until;
};

struct Question {
  std::string product;                 // THUMBPRINT/SLUG, with +test for a test product
  std::string nonce;                   // base64url of 16 to 64 random bytes, new for each question
  std::optional<std::string> feature;  // one that must be licensed too
};

struct Floor {  // The least that the publisher's trust bundles must reach: NUMBER:DIGEST of `keyturn service product export`.
  std::int64_t number;
  std::string digest;
};

namespace detail {

[[noreturn]] inline void malformed(const std::string& why) { throw Error("document_malformed", why); }

// --- strict JSON -----------------------------------------------------------------------------------------------------

struct Json {
  enum Type { null, boolean, number, text, list, object } type = null;
  bool truth = false;
  std::int64_t whole = 0;
  std::string string;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json& operator[](const std::string& name) const {
    static const Json none;
    auto found = members.find(name);
    return found == members.end() ? none : found->second;
  }
  const std::string& str(const char* name) const {
    const Json& value = (*this)[name];
    if (value.type != text) malformed(std::string(name) + " is not a text");
    return value.string;
  }
  std::int64_t num(const char* name) const {
    const Json& value = (*this)[name];
    if (value.type != number || value.whole < 0) malformed(std::string(name) + " is not a whole number");
    return value.whole;
  }
  const std::vector<Json>& array(const char* name) const {
    const Json& value = (*this)[name];
    if (value.type != list) malformed(std::string(name) + " is not a list");
    return value.items;
  }
};

class Reader {
 public:
  static Json object(std::string_view data) {
    Reader reader(data);
    Json value = reader.value(0);
    reader.space();
    if (reader.at_ != data.size() || value.type != Json::object) malformed("the content is not one JSON object");
    return value;
  }

 private:
  static constexpr int max_depth = 17;
  static constexpr std::int64_t max_number = std::int64_t{1} << 53;
  std::string_view data_;
  std::size_t at_ = 0;

  explicit Reader(std::string_view data) : data_(data) {}

  char peek() const { return at_ < data_.size() ? data_[at_] : '\0'; }
  bool take(char wanted) {
    if (at_ >= data_.size() || data_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void need(char wanted) {
    if (!take(wanted)) malformed("the content is not JSON");
  }
  void space() {
    while (at_ < data_.size() && std::strchr(" \t\r\n", data_[at_]) != nullptr && data_[at_] != '\0') ++at_;
  }
  Json word(std::string_view word, Json::Type type, bool truth) {
    if (data_.substr(at_, word.size()) != word) malformed("the content is not JSON");
    at_ += word.size();
    Json value;
    value.type = type;
    value.truth = truth;
    return value;
  }

  Json value(int depth) {
    if (depth > max_depth) malformed("the content is nested too deeply");
    space();
    switch (peek()) {
      case '{': return members(depth);
      case '[': return items(depth);
      case '"': {
        Json value;
        value.type = Json::text;
        value.string = text();
        return value;
      }
      case 't': return word("true", Json::boolean, true);
      case 'f': return word("false", Json::boolean, false);
      case 'n': return word("null", Json::null, false);
      default: return number();
    }
  }

  Json members(int depth) {
    Json value;
    value.type = Json::object;
    need('{');
    space();
    if (take('}')) return value;
    do {
      space();
      if (peek() != '"') malformed("the content is not JSON");
      std::string name = text();
      space();
      need(':');
      if (!value.members.emplace(std::move(name), this->value(depth + 1)).second) malformed("a name appears twice in one object");
      space();
    } while (take(','));
    need('}');
    return value;
  }

  Json items(int depth) {
    Json value;
    value.type = Json::list;
    need('[');
    space();
    if (take(']')) return value;
    do {
      value.items.push_back(this->value(depth + 1));
      space();
    } while (take(','));
    need(']');
    return value;
  }

  Json number() {
    Json value;
    value.type = Json::number;
    bool negative = take('-');
    std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') {
      if (at_ - begin >= 17) malformed("a number is too large");
      value.whole = value.whole * 10 + (data_[at_++] - '0');
    }
    if (at_ == begin || (data_[begin] == '0' && at_ - begin > 1)) malformed("the content is not JSON");
    if (std::strchr(".eE", peek()) != nullptr && peek() != '\0') malformed("numbers here are whole");
    if (value.whole > max_number) malformed("a number is too large");
    if (negative) value.whole = -value.whole;
    return value;
  }

  unsigned hex4() {
    unsigned found = 0;
    for (int count = 0; count < 4; ++count, ++at_) {
      char c = peek();
      unsigned digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
      if (digit > 15) malformed("the content is not JSON");
      found = found * 16 + digit;
    }
    return found;
  }

  static void utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      out += static_cast<char>(0xF0 | code >> 18);
      out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
      out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }

  void escape(std::string& out) {
    char c = peek();
    ++at_;
    static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    if (auto place = from.find(c); c != '\0' && place != from.npos) {
      out += to[place];
      return;
    }
    if (c != 'u') malformed("the content is not JSON");
    unsigned code = hex4();
    if (code >= 0xD800 && code < 0xDC00 && take('\\') && take('u')) {
      unsigned low = hex4();
      if (low < 0xDC00 || low > 0xDFFF) malformed("a text holds half a character");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code < 0xE000) malformed("a text holds half a character");
    utf8(out, code);
  }

  // One character beyond ASCII, as it stands: neither overlong, nor a surrogate, nor above U+10FFFF (RFC 3629).
  void multibyte(std::string& out) {
    unsigned char lead = static_cast<unsigned char>(peek());
    std::size_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0xC2 || lead > 0xF4 || at_ + more >= data_.size()) malformed("the content is not UTF-8");
    unsigned code = lead & (0x3Fu >> more);
    for (std::size_t place = 1; place <= more; ++place) {
      unsigned char next = static_cast<unsigned char>(data_[at_ + place]);
      if ((next & 0xC0) != 0x80) malformed("the content is not UTF-8");
      code = code << 6 | (next & 0x3Fu);
    }
    static constexpr std::array<unsigned, 4> least = {0, 0x80, 0x800, 0x10000};
    if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) malformed("the content is not UTF-8");
    out += data_.substr(at_, more + 1);
    at_ += more + 1;
  }

  std::string text() {
    std::string out;
    need('"');
    while (!take('"')) {
      if (at_ >= data_.size()) malformed("the content is not JSON");
      unsigned char c = static_cast<unsigned char>(peek());
      if (c < 0x20) malformed("the content is not JSON");
      if (c == '\\') {
        ++at_;
        escape(out);
      } else if (c < 0x80) {
        out += data_[at_++];
      } else {
        multibyte(out);
      }
    }
    return out;
  }
};

// --- bytes, digests, signatures --------------------------------------------------------------------------------------

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

inline std::string b64u(std::string_view data) {
  std::string out;
  unsigned held = 0, bits = 0;
  for (unsigned char byte : data) {
    held = held << 8 | byte;
    for (bits += 8; bits >= 6; bits -= 6) out += alphabet[held >> (bits - 6) & 63];
    held &= (1u << bits) - 1;
  }
  if (bits != 0) out += alphabet[held << (6 - bits) & 63];
  return out;
}

inline std::string unb64u(std::string_view text) {
  std::string out;
  unsigned held = 0, bits = 0;
  for (char c : text) {
    std::size_t value = alphabet.find(c);
    if (value == alphabet.npos) malformed("a part is not base64url");
    held = (held << 6 | static_cast<unsigned>(value)) & 0xFFFF;
    if ((bits += 6) >= 8) out += static_cast<char>(held >> (bits -= 8) & 0xFF);
  }
  if (b64u(out) != text) malformed("a part is not canonical base64url");  // One document, one spelling.
  return out;
}

inline std::string sha256(std::string_view data) {
  std::array<unsigned char, 32> out;
  unsigned length = 0;
  if (EVP_Digest(data.data(), data.size(), out.data(), &length, EVP_sha256(), nullptr) != 1 || length != out.size())
    throw Error("internal", "SHA-256 is not there");
  return std::string(out.begin(), out.end());
}

inline bool holds(const std::string& key, std::string_view signature, std::string_view message) {
  auto bytes = [](std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); };
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> pkey(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes(key), key.size()), EVP_PKEY_free);
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return pkey && context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, pkey.get()) == 1 &&
         EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(message), message.size()) == 1;
}

inline std::string public_key(const Json& jwk) {
  if (jwk["kty"].string != "OKP" || jwk["crv"].string != "Ed25519" || jwk.members.count("d") != 0)
    malformed("this is not a public Ed25519 key");
  std::string key = unb64u(jwk.str("x"));
  if (key.size() != 32) malformed("this is not a public Ed25519 key");
  return key;
}

inline std::string thumbprint(const std::string& key) {  // RFC 7638
  return b64u(sha256(R"({"crv":"Ed25519","kty":"OKP","x":")" + b64u(key) + "\"}"));
}

// --- compact JWS (RFC 7515): the kind is pinned by the reader, never chosen by the sender -------------------------------

struct Token {
  std::string kid, payload, signature, signed_part;
  std::optional<std::string> own;  // The key of a document that signs for itself.

  Token(const std::string& text, const std::string& kind) {
    std::size_t first = text.find('.'), last = text.rfind('.');
    if (text.size() > 65536) throw Error("input_too_large", "a document has at most 65536 characters");
    if (first == text.npos || first == last || text.find('.', first + 1) != last) malformed("this is not a compact JWS of three parts");
    signed_part = text.substr(0, last);
    payload = unb64u(std::string_view(text).substr(first + 1, last - first - 1));
    signature = unb64u(std::string_view(text).substr(last + 1));
    Json header = Reader::object(unb64u(std::string_view(text).substr(0, first)));
    const std::string& alg = header["alg"].string;
    if (header["typ"].string != "keyturn-" + kind + "+jwt") malformed("a " + kind + " is expected here");
    if (alg != "EdDSA" && alg != "Ed25519") malformed("the signature algorithm is not Ed25519");
    if (header.members.count("crit") != 0) malformed("the header asks for an extension that is not known here");
    kid = header.str("kid");
    if (kid.empty() || kid.size() > 128) malformed("the header names no key");
    if (header.members.count("jwk") != 0) own = public_key(header["jwk"]);
  }
  void verify(const std::string& key) const {
    if (!holds(key, signature, signed_part)) throw Error("signature_invalid", "a signature does not verify");
  }
};

inline Json claims(const std::string& payload) {
  Json found = Reader::object(payload);
  if (found["v"].type != Json::number || found["v"].whole != 1) malformed("a document is of a version that is not known here");
  return found;
}

// --- the publisher's trust bundles ------------------------------------------------------------------------------------

[[noreturn]] inline void untrusted(const std::string& why) { throw Error("trust_invalid", why); }

struct IssuingKey {
  std::string key, role;
  std::int64_t not_before, not_after;
};
struct Revocation {
  std::int64_t size, at;
  std::string root;
};
struct Bundle {
  std::int64_t number = 0, threshold = 0;
  std::string digest;
  std::map<std::string, std::string> roots;
  std::map<std::string, IssuingKey> keys;
  std::map<std::string, Revocation> revoked;
};

inline void signed_by(const std::vector<Token>& tokens, const std::map<std::string, std::string>& roots, std::int64_t threshold) {
  std::map<std::string, bool> found;
  for (const Token& token : tokens) {
    auto root = roots.find(token.kid);
    if (root == roots.end()) continue;
    token.verify(root->second);
    found[token.kid] = true;
  }
  if (static_cast<std::int64_t>(found.size()) < threshold) untrusted("a trust bundle is signed by too few roots");
}

inline Bundle bundle(const std::string& text, const Bundle* before) {
  std::vector<Token> tokens;
  for (std::size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
    end = text.find('~', begin);
    tokens.emplace_back(text.substr(begin, end == text.npos ? end : end - begin), "bundle");
    if (tokens.size() > 18 || tokens.back().payload != tokens.front().payload) untrusted("a trust bundle's signatures do not fit");
  }
  if (before != nullptr) signed_by(tokens, before->roots, before->threshold);  // Before anything inside is believed.
  Json said = claims(tokens.front().payload);
  Bundle found;
  found.number = said.num("number");
  found.digest = b64u(sha256(tokens.front().payload));
  found.threshold = said["roots"].num("threshold");
  for (const Json& jwk : said["roots"].array("keys")) {
    std::string key = public_key(jwk);
    found.roots[thumbprint(key)] = key;
  }
  for (const Json& item : said.array("keys")) {
    std::string key = public_key(item["jwk"]);
    found.keys[thumbprint(key)] = {key, item.str("role"), item.num("nbf"), item.num("exp")};
  }
  if (said.members.count("revoked") != 0)
    for (const Json& item : said.array("revoked"))
      found.revoked[item.str("kid")] = {item.num("size"), said.num("iat"), unb64u(item.str("root"))};
  auto roots = static_cast<std::int64_t>(said["roots"].array("keys").size());
  if (found.threshold < 1 || found.threshold > roots || roots > 9) untrusted("a trust bundle's threshold does not fit its roots");
  signed_by(tokens, found.roots, found.threshold);
  const Json& previous = said["previous"];
  bool follows = before == nullptr ? found.number == 1 && previous.type == Json::null
                                   : found.number == before->number + 1 && previous.string == before->digest;
  if (!follows) untrusted("a trust bundle is missing");
  return found;
}

inline std::vector<Bundle> chain(const Json& texts, const std::string& pin, const std::optional<Floor>& floor) {
  std::vector<Bundle> found;
  if (texts.items.empty() || texts.items.size() > 256) untrusted("there is no trust bundle, or there are too many");
  const std::string& first = texts.items.front().string;
  if (b64u(sha256(Token(first.substr(0, first.find('~')), "bundle").payload)) != pin)
    throw Error("publisher_mismatch", "trust bundle 1 is another publisher's");
  for (const Json& text : texts.items) {
    Bundle next = bundle(text.string, found.empty() ? nullptr : &found.back());
    found.push_back(std::move(next));
  }
  auto is_floor = [&](const Bundle& item) { return item.number == floor->number && item.digest == floor->digest; };
  if (floor && std::none_of(found.begin(), found.end(), is_floor)) untrusted("the trust bundles do not reach the floor");
  return found;
}

// Whether a proof leads from the document to the root of what a key honestly signed (RFC 9162, section 2.1.3.2).
inline bool included(const std::string& document, const Json& proof, const Revocation& revocation) {
  if (proof.type == Json::null) return false;
  std::int64_t place = proof.num("index"), last = revocation.size - 1;
  if (place > last || proof.array("path").size() > 64) return false;
  std::string found = sha256(std::string(1, '\0') + document);
  for (const Json& step : proof.array("path")) {
    if (last == 0) return false;
    bool right = (place & 1) != 0 || place == last;
    std::string other = unb64u(step.string);
    found = sha256('\1' + (right ? other + found : found + other));
    if (right)
      for (; (place & 1) == 0 && place != 0; place >>= 1) last >>= 1;
    place >>= 1;
    last >>= 1;
  }
  return last == 0 && found == revocation.root;
}

// The claims of a certificate that an issuing key signed, with the product's role, in its time, and is not a thief's.
inline Json certificate(const std::string& text, const std::vector<Bundle>& bundles, const std::string& role, const Json& proof,
                        std::int64_t now) {
  Token token(text, "certificate");
  const IssuingKey* signer = nullptr;
  const Revocation* revoked = nullptr;
  for (const Bundle& item : bundles) {
    if (auto found = item.keys.find(token.kid); found != item.keys.end()) signer = &found->second;  // The newest counts.
    auto stolen = item.revoked.find(token.kid);
    if (revoked == nullptr && stolen != item.revoked.end()) revoked = &stolen->second;  // The first counts.
  }
  if (signer == nullptr || signer->role != role) untrusted("the signer may not sign this");
  token.verify(signer->key);
  Json said = claims(token.payload);
  if (said.num("iat") < signer->not_before || said.num("iat") > signer->not_after)
    throw Error("document_expired", "the certificate was not made within its issuing key's time");
  if (revoked != nullptr && !included(text, proof, *revoked) && now >= revoked->at + std::int64_t{190} * 86400)
    throw Error("issuer_revoked", "the certificate's signer was revoked");
  return said;
}

}  // namespace detail

// Verify the agent's line. `uid` is the asking account, `now` the clock. Throws Error; the codes are those of the page.
inline License verify(const std::string& line, const Question& asked, std::int64_t uid, std::int64_t now,
                      const std::optional<Floor>& floor = std::nullopt) {
  using detail::Json;
  Json answer = detail::Reader::object(line);
  if (const Json& error = answer["error"]; error.type == Json::object) throw Error(error.str("code"), error.str("detail"));
  if (answer["capability"].type != Json::text || answer["bundles"].type != Json::list)
    throw Error("answer_unexpected", "the answer holds no capability");
  for (const Json& text : answer["bundles"].items)
    if (text.type != Json::text) throw Error("answer_unexpected", "a trust bundle is no text");
  if (answer["certificate"].type != Json::text) throw Error("not_licensed", "no certificate stands beside the answer");
  const std::string &text = answer["certificate"].string, pin = asked.product.substr(0, asked.product.find('/'));
  bool test = asked.product.size() > 5 && asked.product.compare(asked.product.size() - 5, 5, "+test") == 0;
  auto foreign = [](const char* why) { throw Error("document_foreign", why); };
  // 1. The bundles are the pinned publisher's, and reach the floor.
  std::vector<detail::Bundle> bundles = detail::chain(answer["bundles"], pin, floor);
  // 2. An issuing key of them signed the certificate, for this product.
  Json certificate = detail::certificate(text, bundles, test ? "test" : "issue", answer["proof"], now);
  if (certificate.str("product") != asked.product) foreign("the certificate is another product's");
  // 3. The certificate's holder signed the capability, and it rests on this certificate.
  detail::Token token(answer["capability"].string, "capability");
  if (!token.own || detail::thumbprint(*token.own) != token.kid) detail::malformed("the capability does not carry the key it names");
  token.verify(*token.own);
  if (token.kid != certificate["cnf"].str("jkt")) foreign("the capability is another installation's");
  Json said = detail::claims(token.payload);
  if (said["certificate"].string != detail::b64u(detail::sha256(text))) foreign("the capability rests on another certificate");
  // 4. It answers this question of this account.
  const Json& feature = said["feature"];
  bool same_feature = asked.feature ? feature.type == Json::text && feature.string == *asked.feature : feature.type == Json::null;
  if (said.str("product") != asked.product || said.str("nonce") != asked.nonce || said.num("uid") != uid || !same_feature)
    foreign("the capability answers another question");
  // 5. It is of this minute.
  std::int64_t issued = said.num("iat"), ends = said.num("exp");
  if (ends <= issued || ends - issued > 60 || issued - 5 > now || now >= ends)
    throw Error("document_expired", "the capability is not of this minute");
  // 6. It says licensed, the certificate has not ended, and the feature is one of the certificate's.
  License license{certificate.str("edition"), certificate.str("activation"), {}, std::nullopt};
  if (certificate["exp"].type != Json::null) license.valid_until = certificate.num("exp");
  if (said.str("state") != "licensed" || !said["usable"].truth || (license.valid_until && now >= *license.valid_until))
    throw Error("not_licensed", "this copy is not licensed: " + said.str("state"));
  for (const Json& item : certificate.array("features")) license.features.push_back(item.string);
  if (asked.feature && std::find(license.features.begin(), license.features.end(), *asked.feature) == license.features.end())
    throw Error("feature_not_licensed", "the edition does not include " + *asked.feature);
  return license;
}

// Ask the agent at `path`; the line it answers. Only root's agent and one's own are asked. Throws Error agent_unreachable.
inline std::string ask(const std::string& path, const Question& question, int seconds = 5) {
  auto unreachable = [&path](const char* why) -> Error { return {"agent_unreachable", path + ": " + why}; };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw unreachable("the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  struct Closing {
    int fd;
    ~Closing() { close(fd); }
  } sock{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  timeval patience{seconds, 0};
  setsockopt(sock.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(sock.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(sock.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw unreachable(std::strerror(errno));
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(sock.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || (peer.uid != 0 && peer.uid != geteuid()))
    throw Error("permission_denied", path + ": what listens there is another account's");
  std::string feature = question.feature ? "\"" + *question.feature + "\"" : "null";
  std::string line = R"({"v":1,"ask":"license","product":")" + question.product + R"(","nonce":")" + question.nonce +
                     R"(","feature":)" + feature + "}\n";
  // Who may not ask is told so before the question is read: what cannot be written any more does not matter.
  (void)!send(sock.fd, line.data(), line.size(), MSG_NOSIGNAL);
  std::string answer;
  std::array<char, 65536> part;
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (answer.empty() || answer.back() != '\n') {
    ssize_t count = recv(sock.fd, part.data(), part.size(), 0);
    if (count <= 0 || std::chrono::steady_clock::now() > until) throw unreachable(count < 0 ? std::strerror(errno) : "no answer");
    answer.append(part.data(), static_cast<std::size_t>(count));
    if (answer.size() > 4 * 1024 * 1024) throw Error("answer_unexpected", "the answer is too large");
  }
  return answer;
}

// Return if the product is licensed on this computer, with `feature` if one is named; otherwise throw Error, and say why.
// Without `socket` the system's agent is asked, and the user's own if the system's store does not have the product.
inline License require(const std::string& product, const std::optional<std::string>& feature = std::nullopt,
                       const std::string& socket = "", const std::optional<Floor>& floor = std::nullopt) {
  std::array<unsigned char, 32> random;
  if (RAND_bytes(random.data(), random.size()) != 1) throw Error("internal", "there are no random numbers");
  Question question{product, detail::b64u({reinterpret_cast<char*>(random.data()), random.size()}), feature};
  auto answered = [&](const std::string& path) { return verify(ask(path, question), question, geteuid(), std::time(nullptr), floor); };
  if (!socket.empty()) return answered(socket);
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  try {
    return answered("/run/keyturn/agent.sock");
  } catch (const Error& error) {
    if (runtime == nullptr || (error.code() != "agent_unreachable" && error.code() != "product_missing")) throw;
  }
  return answered(std::string(runtime) + "/keyturn/agent.sock");
}

}  // namespace keyturn
