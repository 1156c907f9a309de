// The charts: what each shows, as ECharts options made of the points of the window.

import { axes, bars, counted, draw, line, look, MOST_BARS, OUTCOMES, track } from "./drawing.js";
import { count, LAYERS, percent, seconds } from "./words.js";

const QUIET = "Nothing was asked in this time";
const NO_HITS = "No hits in this time";
const WORDS = {
  hit: "hit",
  stale: "stale",
  coalesced: "shared",
  miss: "miss",
  error: "error",
  bypass: "bypass",
};
const SMOOTHED = { 1: 10, 10: 6 }; // length of a point to how many make one of the hit rate

export function rateOf(outcomes) {
  const served = (outcomes.hit ?? 0) + (outcomes.stale ?? 0);
  const asked = served + (outcomes.miss ?? 0) + (outcomes.coalesced ?? 0) + (outcomes.error ?? 0);
  return asked ? served / asked : null;
}

// All that moves with time. `total` is the whole window in one point, `step_s` how long a point is.
export function drawTimes(points, total, { step_s, outcomes, latency, isServing }) {
  const each = step_s === 1 ? "a second" : `in ${seconds(step_s)}`;
  drawRates(points, total, step_s, isServing);
  drawOutcomes(points, total, { layer: outcomes, each });
  drawLatency(points, total, latency);
  drawVersus(points, total);
  drawWaits(points, total, each);
  drawTroubles(points, total, each);
}

// The rate at each point, of what was counted there and shortly before: of a second alone it jumps.
function smooth(points, layer, span_s) {
  return points.map((point, place) => {
    const sums = {};
    for (let at = place; at >= 0 && points[at].t > point.t - span_s; at -= 1) {
      for (const [outcome, value] of Object.entries(points[at].lookups?.[layer] ?? {}))
        sums[outcome] = (sums[outcome] ?? 0) + value;
    }
    return { t: point.t, rate: rateOf(sums) };
  });
}

function drawRates(points, total, step_s, isServing) {
  const span_s = step_s * (SMOOTHED[step_s] ?? 1);
  // Where nothing may be served, a rate of 0 says nothing; what was served before still does.
  const known = (rate) => rate != null && (rate > 0 || isServing);
  const layers = LAYERS.filter(([name]) => known(rateOf(total.lookups?.[name] ?? {})));
  const rates = layers.map(([name, words], place) =>
    line(
      words,
      track(smooth(points, name, span_s), ({ rate }) => rate),
      look[`c${place + 1}`],
    ),
  );
  const said = layers
    .map(([name, words]) => `${words} ${percent(rateOf(total.lookups[name]))}`)
    .join(", ");
  draw(
    "c-rate",
    { ...axes({ unit: percent, max: 1 }), series: rates },
    {
      empty: rates.length ? "" : isServing ? QUIET : "Nothing is served in this mode",
      summary: `Hit rate: ${said}`,
      note: `over ${seconds(span_s)} each`,
    },
  );
}

function drawOutcomes(points, total, { layer, each }) {
  const sums = total.lookups?.[layer] ?? {};
  const stacked = OUTCOMES.filter((name) => sums[name]).map((name) =>
    line(
      WORDS[name],
      counted(points, (point) => point.lookups?.[layer]?.[name]),
      look[name],
      // No line: that of the uppermost one would lie around all, also where it counts nothing.
      { stack: "all", lineStyle: { width: 0 }, areaStyle: { color: look[name], opacity: 1 } },
    ),
  );
  draw(
    "c-outcomes",
    { ...axes({ unit: count }), series: stacked },
    {
      empty: stacked.length ? "" : QUIET,
      note: `${layer === "result" ? "requests" : "lookups"} ${each}`,
      summary: OUTCOMES.map((name) => `${WORDS[name]} ${sums[name] ?? 0}`).join(", "),
    },
  );
}

function drawLatency(points, total, layer) {
  const any = total.latency?.[layer]?.hit?.length;
  const lines = ["p50", "p95", "p99"].map((name, place) =>
    line(
      name,
      track(points, (point) => point.latency?.[layer]?.hit?.[place]),
      look[`c${place + 1}`],
    ),
  );
  draw(
    "c-latency",
    { ...axes({ unit: seconds, log: true }), series: lines },
    {
      empty: any ? "" : NO_HITS,
      summary: any ? `p50, p95, p99: ${total.latency[layer].hit.map(seconds).join(", ")}` : "",
    },
  );
}

function drawVersus(points, total) {
  const times =
    total.without_s && total.with_s
      ? `${count(Math.round(total.without_s / total.with_s))} times as long`
      : "";
  const both = [
    line(
      "made once in",
      track(points, (point) => point.without_s || null),
      look.miss,
    ),
    line(
      "found in",
      track(points, (point) => point.with_s || null),
      look.hit,
    ),
  ];
  draw(
    "c-versus",
    { ...axes({ unit: seconds, log: true }), series: both },
    {
      empty: total.with_s ? "" : NO_HITS,
      summary: total.with_s
        ? `A hit takes ${seconds(total.with_s)}; its answer once took ${seconds(total.without_s ?? 0)}${times && ", "}${times}`
        : "",
      note:
        times &&
        `found in ${seconds(total.with_s)}, made once in ${seconds(total.without_s)}: ${times}`,
    },
  );
}

function drawWaits(points, total, each) {
  const waits = [
    ...["p50", "p95", "p99"].map((name, place) =>
      line(
        name,
        track(points, (point) => point.wait?.[place]),
        look[`c${place + 1}`],
        { tooltip: { valueFormatter: seconds } },
      ),
    ),
    // No bars: for them the time axis would end later than those of the other charts.
    line(
      "waited (right)",
      counted(points, (point) => point.waits),
      look.miss,
      {
        yAxisIndex: 1,
        z: 1,
        lineStyle: { width: 0 },
        areaStyle: { color: look.miss, opacity: 0.7 },
        tooltip: { valueFormatter: count },
      },
    ),
  ];
  const twofold = axes({ unit: seconds });
  twofold.yAxis = [
    twofold.yAxis,
    { ...axes({ unit: count }).yAxis, position: "right", splitLine: { show: false } },
  ];
  draw(
    "c-waits",
    { ...twofold, series: waits },
    {
      empty: total.waits ? "" : "Nobody waited in this time",
      note: total.waits ? `requests ${each}; times from buckets` : "",
      summary: `${total.waits ?? 0} waited`,
    },
  );
}

function drawTroubles(points, total, each) {
  const troubles = [
    ["evictions", "evictions", look.c3],
    ["errors", "backend errors", look.error],
    ["write_errors", "failed writes", look.c4],
  ];
  const sum = troubles.reduce((all, [name]) => all + (total[name] ?? 0), 0);
  draw(
    "c-errors",
    {
      ...axes({ unit: count }),
      series: troubles.map(([name, words, hue]) =>
        line(
          words,
          counted(points, (point) => point[name]),
          hue,
        ),
      ),
    },
    {
      empty: sum ? "" : "None in this time",
      note: sum ? each : "",
      summary: troubles.map(([name, words]) => `${words} ${total[name] ?? 0}`).join(", "),
    },
  );
}

export function drawReasons(total) {
  const sums = Object.values(total.lookups ?? {});
  const isQuiet = !sums.some((one) => Object.values(one).some((value) => value));
  bars("c-bypass", Object.entries(total.bypasses ?? {}), {
    hue: look.bypass,
    empty: isQuiet ? QUIET : "Everything was looked up",
  });
  const misses = Object.entries(total.misses ?? {}).flatMap(([layer, reasons]) =>
    Object.entries(reasons).map(([reason, value]) => [
      layer === "result" ? reason : `${layer}: ${reason}`,
      value,
    ]),
  );
  bars("c-miss", misses, { hue: look.miss, empty: isQuiet ? QUIET : "Nothing was missed" });
  const models = Object.entries(total.models ?? {})
    .filter(([, [, asked]]) => asked)
    .map(([name, [served, asked]]) => [name, served / asked, asked]);
  const first = Math.min(models.length, MOST_BARS);
  bars("c-models", models, {
    unit: percent,
    hue: look.hit,
    max: 1,
    rank: ([name, , asked]) => (name === "_OTHER" ? 0 : asked), // these are not one model
    words: (name) => (name === "_OTHER" ? "others" : name),
    empty: "No requests in this time",
    note:
      first < models.length
        ? `the ${first} most asked for, of ${models.length}`
        : "by how often they are asked for",
    tail: ([, , asked]) => ` of ${count(asked)}`,
  });
}

// What the reasons that are drawn mean: a list to unfold below each of the two charts.
export function explainReasons(total, meanings) {
  const missed = Object.values(total.misses ?? {}).flatMap((reasons) => Object.keys(reasons));
  unfold("m-bypass", Object.keys(total.bypasses ?? {}), meanings.bypass);
  unfold("m-miss", [...new Set(missed)], meanings.miss);
}

function unfold(id, reasons, meanings) {
  const list = document.getElementById(id);
  const known = reasons.filter((reason) => meanings?.[reason]).sort();
  list.parentElement.hidden = !known.length;
  if (list.dataset.known === known.join()) return;
  list.dataset.known = known.join();
  list.replaceChildren(
    ...known.flatMap((reason) => [
      Object.assign(document.createElement("dt"), { textContent: reason }),
      Object.assign(document.createElement("dd"), { textContent: meanings[reason].replaceAll("`", "") }),
    ]),
  );
}
