// Checks an installation ID, or a validation ID, while it is typed, fills it in from a QR code's address, and reads an answer aloud.
// Everything works without it: the server checks the same again. docs/protocol-telephone.md has the codes.
"use strict";

const Phone = (() => {
  // Damm's table: rows are where one stands, columns the digits.
  const DAMM = ["0317598642", "7092154863", "4206871359", "1750983426", "6123045978",
    "3674209581", "5869720134", "8945362017", "9438617205", "2581436790"];
  const SIZE = 6, LETTERS = 4, ORDER = 2047;
  const INSTALLATION = { bits: 149, groups: 9, words: 16 };  // A validation ID's form says others.

  const power = [1], log = new Map([[1, 0]]);
  for (let n = 1; n < ORDER; n++) {
    const next = power[n - 1] << 1;
    power.push(next & 2048 ? next ^ 2053 : next);
    log.set(power[n], n);
  }

  const holds = (number, group) =>
    group.length === SIZE && [...group].reduce((row, digit) => Number(DAMM[row][digit]), number % 10) === 0;

  const bare = (text) => text.normalize("NFKC").toLowerCase().split("#").pop();

  // What stands in each place: its text, whether it is whole, partial or wrong, and a word to offer.
  function judge(text, list, id = INSTALLATION) {
    const plain = bare(text);
    return /[a-z]/.test(plain) ? judgeWords(plain, list, id.words) : judgeDigits(plain, id.groups, (1n << BigInt(id.bits)) - 1n);
  }

  function judgeDigits(plain, groups, greatest) {
    const digits = plain.replace(/[^0-9]/g, "");
    const parts = [];
    for (let place = 0; place < groups && place * SIZE < digits.length; place++) {
      const group = digits.slice(place * SIZE, (place + 1) * SIZE);
      const state = holds(place + 1, group) ? "whole" : group.length < SIZE ? "partial" : "wrong";
      parts.push({ text: group, state, offer: "" });
    }
    const full = parts.length === groups && parts.every((part) => part.state === "whole");
    if (full && BigInt(parts.map((part) => part.text.slice(0, 5)).join("")) > greatest) {
      parts.forEach((part) => { part.state = "wrong"; });
    }
    return summed("group", groups, parts, digits.length > groups * SIZE);
  }

  function judgeWords(plain, list, words) {
    const found = [...plain.matchAll(/[a-z]+/g)];
    const places = [];
    const parts = found.slice(0, words).map((match) => {
      const typed = match[0], begin = typed.slice(0, LETTERS);
      const place = list.findIndex((word) =>
        word === typed || (typed.length >= LETTERS && word.slice(0, LETTERS) === begin && word.startsWith(typed)));
      places.push(Math.max(place, 0));
      if (place >= 0) return { text: list[place], state: "whole", offer: "" };
      const open = match.index + typed.length === plain.length && list.some((word) => word.startsWith(typed));
      return { text: typed, state: open ? "partial" : "wrong", offer: "" };
    });
    if (parts.length === words && parts.every((part) => part.state !== "partial")) compare(parts, places, list);
    return summed("word", words, parts, found.length > words);
  }

  // The check words: both sums are zero, or they say which word is wrong and what it should be.
  function compare(parts, places, list) {
    const sum = places.reduce((all, value) => all ^ value, 0);
    const weighed = places.reduce(
      (all, value, place) => all ^ (value ? power[(log.get(value) + place) % ORDER] : 0), 0);
    const unknown = parts.findIndex((part) => part.state === "wrong");
    if (!sum && !weighed && unknown < 0) return;
    const place = sum && weighed ? (log.get(weighed) - log.get(sum) + ORDER) % ORDER : !sum && !weighed ? unknown : parts.length;
    if (place < parts.length && (unknown < 0 || unknown === place)) {
      parts[place].state = "wrong";
      parts[place].offer = list[places[place] ^ sum];
    } else if (unknown < 0) {
      parts.forEach((part) => { part.state = "wrong"; });
    }
  }

  function summed(unit, of, parts, extra) {
    const wrong = parts.flatMap((part, place) => part.state === "wrong" ? [place + 1] : []);
    const next = wrong[0] || parts.findIndex((part) => part.state === "partial") + 1 || parts.length + 1;
    return { unit, of, parts, wrong, extra, next, whole: !extra && parts.length === of && parts.every((part) => part.state === "whole") };
  }

  // The 54 digits of a whole installation ID, without spaces, as a QR code says them.
  function digits(found, list) {
    if (found.unit === "group") return found.parts.map((part) => part.text).join("");
    const number = found.parts.slice(0, -2).reduce((all, part) => all << 11n | BigInt(list.indexOf(part.text)), 0n);
    const text = number.toString().padStart(INSTALLATION.groups * (SIZE - 1), "0");
    return [...Array(INSTALLATION.groups).keys()].map((place) => {
      const group = text.slice(place * (SIZE - 1), (place + 1) * (SIZE - 1));
      return group + [...group].reduce((row, digit) => Number(DAMM[row][digit]), (place + 1) % 10);
    }).join("");
  }

  function told(found) {
    if (!found.parts.length) return "";
    if (found.extra) return `There are more than ${found.of} ${found.unit}s.`;
    if (found.wrong.length === found.of) return `More than one ${found.unit} is wrong: compare all of them.`;
    if (found.wrong.length) {
      const offers = found.parts.filter((part) => part.offer).map((part) => part.offer);
      const perhaps = offers.length ? ` Should it be “${offers.join("”, “")}”?` : "";
      return `Look at ${found.unit} ${found.wrong.join(", ")}: it is not right.${perhaps}`;
    }
    return found.whole ? `All ${found.of} ${found.unit}s are right.` : `Now ${found.unit} ${found.next} of ${found.of}.`;
  }

  // The page: a list of parts and a sentence, kept up to date.
  function watch(form) {
    const field = form.querySelector("textarea"), list = form.querySelector(".parts"), state = form.querySelector(".state");
    const words = (document.querySelector("#words")?.content.textContent || "").trim().split(/\s+/);
    const { bits, groups, words: count } = form.dataset;
    const id = groups ? { bits: Number(bits), groups: Number(groups), words: Number(count) } : INSTALLATION;
    const show = () => {
      const found = judge(field.value, words, id);
      list.replaceChildren(...found.parts.map((part) => {
        const item = document.createElement("li");
        item.className = part.state;
        item.textContent = part.text;
        if (part.state === "wrong") item.append(Object.assign(document.createElement("b"), { textContent: " not right" }));
        return item;
      }));
      if (state.textContent !== told(found)) state.textContent = told(found);
    };
    const scanned = () => {
      if (!/^#[0-9]{6}/.test(location.hash)) return;
      field.value = location.hash.slice(1).replace(/[0-9]{6}/g, "$& ").trim();
      history.replaceState(null, "", location.pathname);
      field.dispatchEvent(new Event("input"));
    };
    field.addEventListener("input", show);
    addEventListener("hashchange", scanned);
    field.setSelectionRange(field.value.length, field.value.length);
    show();
    scanned();
    if (form.dataset.look) look(form, field);
  }

  // The desk asks the service what it knows so far, a moment after the last key.
  function look(form, field) {
    let waiting = 0, asked = 0;
    const ask = async () => {
      const mine = ++asked;
      const answer = await fetch(form.dataset.look, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (!answer.ok || mine !== asked) return;
      const found = await answer.json();
      form.querySelector("[name=ticket]").value = found.ticket;
      document.querySelector("#ticket").textContent = found.ticket || "none yet";
      const say = document.querySelector("#say");
      say.className = found.mood;
      if (say.textContent !== found.say) say.textContent = found.say;
    };
    field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(ask, 250); });
    if (field.value) ask();
  }

  // Part by part, with the number before it, by the browser's own voice.
  function aloud(button) {
    if (!("speechSynthesis" in window)) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      speechSynthesis.cancel();
      if (button.dataset.on) { delete button.dataset.on; button.textContent = button.dataset.say; return; }
      const parts = [...document.querySelectorAll(`${button.dataset.of} li`)].map((item) => item.textContent);
      parts.forEach((part, place) => {
        const text = /^[0-9]+$/.test(part) ? [...part].join(" ") : part;
        const spoken = new SpeechSynthesisUtterance(`${place + 1}: ${text}.`);
        spoken.lang = "en";
        spoken.rate = 0.75;
        speechSynthesis.speak(spoken);
      });
      button.dataset.on = "1";
      button.dataset.say = button.textContent;
      button.textContent = "Stop reading";
    });
  }

  if (typeof document !== "undefined") {
    document.querySelectorAll("form.typed").forEach(watch);
    document.querySelectorAll("button[data-of]").forEach(aloud);
  }
  return { judge, told, digits };
})();
