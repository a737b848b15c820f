"use strict";
// The page asks for what is new and puts it in place. It keeps nothing that the next answer would not bring again, so
// it goes on by itself after a laptop has slept or the server was away. While it is hidden it asks for nothing.

const LIVE = 1000, RESTING = 5000, LIST = 3000, AWAY = 15000, NARROW = 680;
const $ = id => document.getElementById(id);
const PARTS = ["head", "cost", "table", "spend", "log"];

let name = "", number = "";              // the run and the candidate that the address names
let cursor = "", tags = {}, listTag = "", cardTag = "";
let asked = {by: "evaluations", narrow: "", show: "all", find: "", page: "0"};
let timer = 0, busy = false, again = false, pause = LIVE, failures = 0, listed = -LIST, best = "", state = "";

async function get(path, query = {}) {
  const answer = await fetch(path + "?" + new URLSearchParams(query), {signal: AbortSignal.timeout(60000)});
  if (answer.status === 204) return null;
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const path = (...words) => "/" + words.map(encodeURIComponent).join("/");

// Puts HTML from the server, which has escaped whatever others wrote, into a part of the page. What the reader does
// there stays: the focus, what is unfolded, and a selection, for which it waits (then it gives false).
function place(node, html, glow) {
  const chosen = getSelection();
  if (!chosen.isCollapsed && node.contains(chosen.anchorNode)) return false;
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const known = new Set([...node.querySelectorAll("tr[id]")].map(row => row.id));
  const rows = [...fresh.content.querySelectorAll("tr[id]")], arrived = rows.filter(row => !known.has(row.id));
  if (glow && arrived.length < rows.length) for (const row of arrived) row.classList.add("arrived");
  const focus = node.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...node.querySelectorAll("details[open][id]")].map(item => item.id);
  const scrolled = [...node.querySelectorAll(".wide")].map(item => item.scrollLeft);
  node.replaceChildren(fresh.content);
  for (const id of open) if ($(id)) $(id).open = true;
  [...node.querySelectorAll(".wide")].forEach((item, at) => { item.scrollLeft = scrolled[at] || 0; });
  if (focus && $(focus)) $(focus).focus({preventScroll: true});
  return true;
}

function trouble(text, hint) {
  $("problem").hidden = !text;
  $("problem").textContent = text ? text + (hint ? " — " + hint : "") : "";
}

async function list() {
  const found = await get("/runs", {have: listTag});
  listed = performance.now();
  if (found && place($("runs"), found.html)) { listTag = found.tag; mark(); }
}

// Marks the run that is shown, and hides those that the search does not fit.
function mark() {
  const wanted = $("seek").value.trim().toLowerCase();
  let fits = 0, all = 0;
  for (const item of $("runs").querySelectorAll("a[data-run]")) {
    if (item.dataset.run === name) item.setAttribute("aria-current", "page"); else item.removeAttribute("aria-current");
    const shown = item.textContent.toLowerCase().includes(wanted);
    item.parentElement.hidden = !shown;
    fits += shown; all += 1;
  }
  $("none").hidden = !all || fits > 0;
}

async function follow() {
  const mine = name, sent = JSON.stringify(asked);
  const have = Object.entries(tags).map(pair => pair.join(":")).join(",");
  const found = await get(path("run", mine), {...asked, cursor, have});
  if (mine !== name || sent !== JSON.stringify(asked)) { again = true; return; }
  if (!found) return;
  if (found.error) {
    cursor = ""; tags = {}; pause = RESTING; best = "";
    $("run").hidden = true;
    trouble(found.error, found.hint);
    return;
  }
  trouble("");
  $("run").hidden = false;
  cursor = found.cursor;
  if (found.state !== state) { state = found.state; listed = -LIST; again = true; }  // the list tells it too
  for (const part of PARTS) {
    if (!(part in found.parts)) continue;
    if (part === "cost" && found.waiting && !found.parts.cost) { again = true; continue; }  // until it is drawn
    if (place($(part), found.parts[part], part === "table")) tags[part] = found.tags[part];
    else cursor = "";
  }
  pause = found.live || found.waiting ? LIVE : RESTING;
  $("by").hidden = !found.paid;
  const now = $("best"), number = now ? now.dataset.number : "";
  if (now && best && best !== number) {
    now.classList.add("arrived");
    $("said").textContent = `New champion: #${number}, ${now.textContent}`;
  }
  best = number;
  document.title = `${found.live ? "● " : ""}${now ? now.textContent + " · " : ""}${mine} · TrueGain`;
}

async function look(fresh) {
  const mine = name + "/" + number;
  if (!number) { if ($("card").open) $("card").close(); return; }
  const found = await get(path("run", name, "candidate", number));
  if (!found || mine !== name + "/" + number) return;
  if (found.error) { $("body").textContent = found.error; }
  else if (found.tag !== cardTag && !$("body").querySelector("[data-trace][aria-expanded=true]")) {
    if (place($("body"), found.html)) cardTag = found.tag;
  }
  if (!$("card").open) $("card").showModal();
  if (fresh) { $("card").scrollTop = 0; $("close").focus(); }
}

async function trace(button) {
  const row = button.closest("tr"), next = row.nextElementSibling;
  if (button.getAttribute("aria-expanded") === "true") {
    if (next && next.classList.contains("trace")) next.remove();
    button.setAttribute("aria-expanded", "false");
    button.textContent = "show trace";
    return;
  }
  const found = await get(path("run", name, "trace", button.dataset.trace));
  const shown = document.createElement("tr"), cell = shown.insertCell(), text = document.createElement("pre");
  shown.className = "trace";
  cell.colSpan = row.cells.length;
  text.textContent = found.text || found.error;
  cell.append(text);
  row.after(shown);
  button.setAttribute("aria-expanded", "true");
  button.textContent = "hide trace";
}

async function tick() {
  clearTimeout(timer);
  if (busy) { again = true; return; }
  busy = true;
  try {
    do {
      again = false;
      if (performance.now() - listed >= LIST) await list();
      if (name) await follow();
      if (number && $("card").open) await look(false);
    } while (again);
    failures = 0;
    $("link").textContent = "";
  } catch (error) {
    failures += 1;
    $("link").textContent = "not connected; trying again …";
    $("link").title = String(error);
  }
  busy = false;
  if (!document.hidden) timer = setTimeout(tick, failures ? Math.min(AWAY, LIVE * 2 ** failures) : name ? pause : LIST);
}

function anew() { cursor = ""; tick(); }

function route() {
  const words = location.hash.replace(/^#\/?/, "").split("/").map(text => {
    try { return decodeURIComponent(text); } catch { return text; }
  });
  if (location.hash === "#main") return;
  if (words[0] !== name) {
    name = words[0];
    cursor = ""; tags = {}; best = state = ""; pause = LIVE; asked = {...asked, page: "0", by: "evaluations"};
    press();
    trouble("");
    $("run").hidden = true;
    for (const part of PARTS) $(part).replaceChildren();
    $("report").href = name ? path("report", name) : "/";
    document.title = "TrueGain";
    scrollTo(0, 0);
  }
  number = words[1] || "";
  cardTag = "";
  $("body").replaceChildren();
  $("welcome").hidden = Boolean(name);
  $("back").hidden = !name;
  document.body.classList.toggle("chosen", Boolean(name));
  mark();
  look(true).catch(() => {});
  fit();
  tick();
}

// On a phone the picture is another one, whose words can be read.
function fit() {
  const narrow = $("main").clientWidth < NARROW ? "1" : "";
  if (narrow === asked.narrow) return false;
  asked = {...asked, narrow};
  document.body.classList.toggle("narrow", Boolean(narrow));
  return true;
}

function press() {
  for (const item of $("by").children) item.setAttribute("aria-pressed", String(item.dataset.by === asked.by));
}

document.addEventListener("click", event => {
  const button = event.target.closest("button"), row = event.target.closest("tr[id^=c]");
  if (button && button.dataset.by) { asked.by = button.dataset.by; press(); anew(); }
  else if (button && button.dataset.page) { asked.page = button.dataset.page; anew(); }
  else if (button && button.dataset.trace) trace(button).catch(() => {});
  else if (event.target === $("card") || (button && button.id === "close")) $("card").close();
  else if (row && !event.target.closest("a, button") && getSelection().isCollapsed)
    location.hash = path(name, row.id.slice(1));
});
$("card").addEventListener("close", () => {
  const from = number;
  if (number) location.hash = path(name);
  if (from && $("a" + from)) $("a" + from).focus({preventScroll: true});
});
$("seek").addEventListener("input", mark);
$("show").addEventListener("input", () => { asked = {...asked, show: $("show").value, page: "0"}; anew(); });
$("find").addEventListener("input", () => { asked = {...asked, find: $("find").value, page: "0"}; anew(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });
addEventListener("online", tick);
addEventListener("hashchange", route);
addEventListener("resize", () => { if (name && fit()) anew(); });
asked.show = $("show").value;
asked.find = $("find").value;
route();
