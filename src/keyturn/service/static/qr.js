// QR codes (ISO/IEC 18004) for the page that has no network: bytes, error correction M, versions 1 to 9.
"use strict";

const Qr = (() => {
  // For each version: all codewords, those that correct in each block, blocks, and where alignment patterns are.
  const VERSIONS = [[26, 10, 1, []], [44, 16, 1, [6, 18]], [70, 26, 1, [6, 22]], [100, 18, 2, [6, 26]], [134, 24, 2, [6, 30]],
    [172, 16, 4, [6, 34]], [196, 18, 4, [6, 22, 38]], [242, 22, 4, [6, 24, 42]], [292, 22, 5, [6, 26, 46]]];

  const exp = [1];
  for (let n = 1; n < 255; n++) exp.push(exp[n - 1] & 128 ? (exp[n - 1] << 1) ^ 285 : exp[n - 1] << 1);
  const log = new Map(exp.map((value, n) => [value, n]));
  const times = (a, b) => a && b ? exp[(log.get(a) + log.get(b)) % 255] : 0;

  function correction(data, count) {
    let generator = [1];
    for (let n = 0; n < count; n++) {
      const next = [...generator, 0];
      generator.forEach((value, place) => { next[place + 1] ^= times(value, exp[n]); });
      generator = next;
    }
    const rest = [...data, ...Array(count).fill(0)];
    data.forEach((_, place) => {
      const lead = rest[place];
      generator.forEach((value, n) => { rest[place + n] ^= times(value, lead); });
    });
    return rest.slice(data.length);
  }

  function codewords(text) {
    const bytes = [...new TextEncoder().encode(text)];
    const version = VERSIONS.findIndex(([all, check, blocks]) => bytes.length + 2 <= all - check * blocks) + 1;
    if (!version) return null;
    const [all, check, blocks] = VERSIONS[version - 1], room = all - check * blocks;
    // Mode and length are twelve bits, so every byte lies across two; four zeros end it.
    const nibbles = [4, bytes.length >> 4, bytes.length & 15, ...bytes.flatMap((byte) => [byte >> 4, byte & 15]), 0];
    const data = [];
    for (let n = 0; n < nibbles.length; n += 2) data.push(nibbles[n] << 4 | nibbles[n + 1]);
    for (let n = 0; data.length < room; n++) data.push(n % 2 ? 17 : 236);
    const parts = [], short = Math.floor(room / blocks), long = room % blocks;
    for (let n = 0, begin = 0; n < blocks; n++) {
      const end = begin + short + (n >= blocks - long ? 1 : 0);
      parts.push(data.slice(begin, end));
      begin = end;
    }
    const checks = parts.map((part) => correction(part, check)), found = [];
    for (let n = 0; n <= short; n++) parts.forEach((part) => { if (n < part.length) found.push(part[n]); });
    for (let n = 0; n < check; n++) checks.forEach((part) => found.push(part[n]));
    return { version, found };
  }

  // Rows of true and false; null for a text that is too long.
  function matrix(text) {
    const coded = codewords(text);
    if (!coded) return null;
    const { version, found } = coded, size = 17 + 4 * version, at = VERSIONS[version - 1][3];
    const rows = Array.from({ length: size }, () => Array(size).fill(null));
    const put = (row, column, value) => { if (row >= 0 && column >= 0 && row < size && column < size) rows[row][column] = Boolean(value); };
    const square = (row, column, reach, dark) => {
      for (let y = -reach; y <= reach; y++) for (let x = -reach; x <= reach; x++) put(row + y, column + x, dark(Math.max(Math.abs(x), Math.abs(y))));
    };
    for (const [row, column] of [[3, 3], [3, size - 4], [size - 4, 3]]) square(row, column, 4, (far) => far !== 2 && far !== 4);
    for (let n = 8; n < size - 8; n++) { put(6, n, n % 2 === 0); put(n, 6, n % 2 === 0); }
    for (const row of at) for (const column of at) {
      if (rows[row][column] === null || row === 6 && column !== 6 && column !== size - 7 || column === 6 && row !== 6 && row !== size - 7) {
        square(row, column, 2, (far) => far !== 1);
      }
    }
    // Level M with mask 0, and its check.
    const format = 0b101010000010010, bit = (value, n) => value >> n & 1;
    for (let n = 0; n < 15; n++) {
      put(n < 6 ? n : n < 8 ? n + 1 : size - 15 + n, 8, bit(format, n));
      put(8, n < 8 ? size - 1 - n : n === 8 ? 7 : 14 - n, bit(format, n));
    }
    put(size - 8, 8, true);
    if (version > 6) {
      let rest = version << 12;
      for (let n = 17; n > 11; n--) if (bit(rest, n)) rest ^= 0b1111100100101 << n - 12;
      const told = version << 12 | rest;
      for (let n = 0; n < 18; n++) {
        put(Math.floor(n / 3), size - 11 + n % 3, bit(told, n));
        put(size - 11 + n % 3, Math.floor(n / 3), bit(told, n));
      }
    }
    let place = 0;
    for (let right = size - 1; right > 0; right -= 2) {
      if (right === 6) right--;
      for (let step = 0; step < size; step++) {
        const row = (right + 1 & 2) === 0 ? size - 1 - step : step;
        for (const column of [right, right - 1]) {
          if (rows[row][column] !== null) continue;
          const value = place < 8 * found.length ? bit(found[place >> 3], 7 - (place & 7)) : 0;
          rows[row][column] = Boolean(value ^ ((row + column) % 2 === 0));
          place++;
        }
      }
    }
    return rows;
  }

  // Drawn as one path, with the quiet zone around it.
  function draw(text) {
    const rows = matrix(text);
    if (!rows) return "";
    const size = rows.length + 8;
    const path = rows.flatMap((row, y) => row.flatMap((dark, x) => dark ? [`M${x + 4} ${y + 4}h1v1h-1z`] : [])).join("");
    return `<svg viewBox="0 0 ${size} ${size}" role="img" aria-label="QR code of this installation ID"><path fill="#fff" d="M0 0h${size}v${size}H0z"/>`
      + `<path fill="#000" d="${path}"/></svg>`;
  }

  return { matrix, draw, codewords };
})();

if (typeof document !== "undefined") {
  const field = document.querySelector("#id"), place = document.querySelector("#qr");
  const list = document.querySelector("#words").content.textContent.trim().split(/\s+/);
  const show = () => {
    const found = Phone.judge(field.value, list);
    place.innerHTML = found.whole ? Qr.draw(`${place.dataset.page}#${Phone.digits(found, list)}`) : "";
  };
  field.addEventListener("input", show);
  show();
}
