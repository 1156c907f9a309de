// The dashboard: signs in, follows the stream, and hands what comes to cards, charts and tables.

import { drawReasons, drawStored, drawTimes } from "./charts.js";
import { resize, restyle } from "./drawing.js";
import { call, follow, SignedOut, token } from "./live.js";
import { arm, showAudit, showNodes, showTop } from "./tables.js";
import { bytes, count, dollars, percent, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const SLOW_MS = 10_000;
const OLD_MS = 8_000;
const AGAIN_MS = 2_000;
const SPAN_S = { "5m": 300, "1h": 3_600, "24h": 86_400 };

let view = "5m";
let points = new Map(); // when it began -> point
let latest = null;
let stored = null;
let following = null;
let moved = { at_s: 0, ms: 0 };
let slow = 0;
let again = 0;

// Changes a text only when it says something else: what is read out is not read out each second.
function put(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function showCards({ cards, coordinator, mode }) {
  const { hit_rate: rate, saved } = cards;
  for (const name of Object.keys(SPAN_S)) put(`rate-${name}`, percent(rate[name]));
  put("served", count(cards.served));
  put("tokens", count(saved.input_tokens + saved.output_tokens));
  put("tokens-in", count(saved.input_tokens));
  put("tokens-out", count(saved.output_tokens));
  put("usd", dollars(saved.usd));
  put("time", seconds(saved.time_s));
  put("entries", count(cards.entries));
  put("entries-note", cards.workers === 1 ? "1 process" : `${count(cards.workers)} processes`);
  put("bytes", cards.bytes == null ? "–" : bytes(cards.bytes));
  put(
    "limit",
    cards.limit_bytes == null
      ? cards.bytes == null
        ? "see the nodes"
        : "no limit"
      : `of ${bytes(cards.limit_bytes)}`,
  );
  $("fill").hidden = cards.limit_bytes == null;
  if (cards.limit_bytes) $("fill").value = cards.bytes / cards.limit_bytes;
  put("backend", cards.is_up ? "up" : "down");
  put("backend-note", coordinator);
  $("dot").className = `dot ${cards.is_up ? "up" : "down"}`;
  const word = isOld() ? "Numbers are not moving" : cards.is_up ? "Live" : "Backend down";
  put("state", `${word} · mode ${mode}`);
}

// Whether frames come, but with the same numbers: the coordinator does not answer.
function isOld() {
  if (latest.at_s !== moved.at_s) moved = { at_s: latest.at_s, ms: Date.now() };
  return Date.now() - moved.ms > OLD_MS;
}

function show() {
  if (!latest) return;
  const sorted = [...points.values()].sort((one, other) => one.t - other.t);
  drawTimes(sorted, latest.total, $("layer").value);
  drawReasons(latest.total);
}

function take(frame) {
  latest = frame;
  for (const point of frame.points) points.set(point.t, point);
  for (const at of points.keys()) {
    const isOver = at < frame.at_s - SPAN_S[view] - frame.step_s;
    if (isOver || at > frame.at_s + SPAN_S[view]) points.delete(at); // its clock was put right
  }
  showCards(frame);
  show();
  document.body.dataset.frames = String(Number(document.body.dataset.frames ?? 0) + 1);
}

function showStored() {
  if (!stored) return;
  put(
    "sampled",
    `${count(stored.looked_at)} of ${count(stored.total)} entries looked at${stored.trouble ? `; ${stored.trouble}` : ""}`,
  );
  put(
    "counted",
    stored.keys ? `${count(stored.served)} hits of ${count(stored.keys)} answers` : "",
  );
  drawStored(stored);
  showTop(stored.top);
}

// What is not told each second. A failure of one part leaves the others alone.
async function look() {
  const parts = [
    async () => {
      stored = await call("distribution");
      showStored();
    },
    async () => showNodes(await call("cluster"), await call("breakers")),
    async () => showAudit((await call("audit")).rows),
  ];
  const ended = await Promise.allSettled(parts.map((part) => part()));
  const out = ended.find(({ reason }) => reason instanceof SignedOut);
  if (out) signOut(out.reason.message);
  else if (ended[1].reason) put("breakers", ended[1].reason.message);
}

function begin() {
  following?.abort();
  const stop = (following = new AbortController());
  points = new Map();
  follow(view, { take, lost, signal: stop.signal }).catch((error) => {
    if (!stop.signal.aborted) signOut(error.message);
  });
}

function lost(error) {
  $("dot").className = "dot";
  put("state", `No connection: ${error.message}`);
}

function signOut(reason = "") {
  following?.abort();
  clearInterval(slow);
  clearTimeout(again);
  token.clear();
  latest = null;
  $("main").hidden = $("leave").hidden = $("windows").hidden = true;
  $("door").hidden = false;
  put("door-reason", reason);
  put("state", "Signed out");
  $("dot").className = "dot";
  $("token").focus();
}

async function enter() {
  clearTimeout(again);
  try {
    const { open } = await (await fetch("assets/door.json", { cache: "no-store" })).json();
    if (!open && !token.get()) {
      signOut();
      return;
    }
    await call("breakers");
  } catch (error) {
    if (error instanceof SignedOut) signOut(error.message);
    else {
      lost(error); // the token may be right all the same
      again = setTimeout(enter, AGAIN_MS);
    }
    return;
  }
  $("door").hidden = true;
  $("main").hidden = $("windows").hidden = false;
  $("leave").hidden = !token.get();
  begin();
  look();
  clearInterval(slow);
  slow = setInterval(look, SLOW_MS);
}

function paint(theme) {
  document.documentElement.dataset.theme = theme;
  put("theme", theme === "dark" ? "Light" : "Dark");
  restyle();
  show();
  showStored();
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
  $("token").value = "";
  enter();
});
$("leave").addEventListener("click", () => signOut());
$("layer").addEventListener("change", show);
$("windows").addEventListener("click", ({ target }) => {
  if (!target.dataset.window) return;
  view = target.dataset.window;
  for (const one of $("windows").children) one.setAttribute("aria-pressed", String(one === target));
  begin();
});
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("routecache.theme", theme);
  paint(theme);
});
addEventListener("resize", resize);
arm(signOut);
paint(
  localStorage.getItem("routecache.theme") ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
);
enter();
