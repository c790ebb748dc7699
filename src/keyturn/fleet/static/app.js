// What the pages do beyond forms and links. Every page works without it, but for dropping a file.
"use strict";

// The menu is open without this script; a narrow screen begins with it closed.
const menu = document.querySelector(".menu");
const narrow = matchMedia("(max-width: 55.99rem)");
const fold = () => { if (menu) menu.open = !narrow.matches; };
fold();
narrow.addEventListener("change", fold);

// One box ticks every box of the page; how many are ticked is said.
const every = document.querySelector("#every");
if (every) {
  const boxes = [...document.querySelectorAll("input[name=computer]")];
  const said = document.querySelector("#ticked");
  const count = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    said.textContent = ticked === 1 ? "1 computer is ticked." : `${ticked} computers are ticked.`;
    every.checked = ticked > 0 && ticked === boxes.length;
    every.indeterminate = ticked > 0 && ticked < boxes.length;
  };
  every.addEventListener("change", () => { for (const box of boxes) box.checked = every.checked; count(); });
  for (const box of boxes) box.addEventListener("change", count);
  count();
}

// What cannot be undone is asked about.
for (const button of document.querySelectorAll("[data-ask]")) {
  button.addEventListener("click", (event) => { if (!confirm(`${button.dataset.ask} Go on?`)) event.preventDefault(); });
}

// The fields of an order that mean something for the action that is chosen.
const order = document.querySelector("#order");
if (order) {
  const fit = () => {
    const action = order.querySelector("[name=action]:checked")?.value;
    const way = order.querySelector("[name=way]").value;
    order.querySelector("#with-key").hidden = !["activate", "install-key", "rebind"].includes(action);
    order.querySelector("#with-way").hidden = !["activate", "deactivate"].includes(action);
    order.querySelector("#with-host").hidden = action !== "activate" || way !== "host";
  };
  order.addEventListener("change", fit);
  fit();
}

// A file is sent as it is: dropped on the page's box, or chosen.
const drop = document.querySelector("#drop");
if (drop) {
  const outcome = document.querySelector("#outcome");
  const send = async (file) => {
    if (!file) return;
    outcome.textContent = `Reading ${file.name} …`;
    try {
      const answer = await fetch("/files/import", {
        method: "POST",
        headers: {
          "Content-Type": "application/octet-stream", "HX-Request": "true",
          "X-Keyturn-CSRF": document.querySelector("meta[name=csrf]").content,
        },
        body: file,
      });
      if (answer.redirected || answer.headers.has("HX-Redirect")) { location.assign("/sign-in"); return; }
      // Made by our own templates, which escape whatever they are given.
      outcome.innerHTML = await answer.text();
    } catch {
      outcome.textContent = "The manager did not answer. Nothing was taken; try again.";
    }
  };
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); send(event.dataTransfer.files[0]); });
  drop.querySelector("input").addEventListener("change", (event) => { send(event.target.files[0]); event.target.value = ""; });
}

// The picture over time; the same figures stand in a table below it.
const chart = document.querySelector("#chart");
if (chart && window.uPlot) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const days = JSON.parse(chart.dataset.days);
  const date = (seconds) => (seconds == null ? "–" : new Date(seconds * 1000).toISOString().slice(0, 10));
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const line = (label, name, dash) => ({ label, stroke: colour(name), width: 2, dash, points: { show: days.length < 3 } });
    chart.replaceChildren();
    new uPlot({
      width: chart.clientWidth, height: 240, scales: { y: { range: (_, low, high) => [0, Math.max(1, high)] } },
      series: [{ label: "Day", value: (_, seconds) => date(seconds) }, line("licensed", "--good"), line("grace", "--wait", [8, 4]), line("notification", "--bad", [2, 3])],
      axes: [{ ...axis, space: 110, values: (_, ticks) => ticks.map(date) }, { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }],
    }, [days.map((day) => day.at), days.map((day) => day.licensed), days.map((day) => day.grace), days.map((day) => day.notification)], chart);
  };
  draw();
  addEventListener("resize", draw);
  dark.addEventListener("change", draw);
}
