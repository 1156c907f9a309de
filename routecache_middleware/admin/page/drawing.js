// Drawing: the theme's colours, and what the charts have in common.
/* global echarts */

import { count } from "./words.js";

export const OUTCOMES = ["hit", "stale", "coalesced", "miss", "error", "bypass"];
export const MOST_BARS = 10;
const TIMES = {
  day: "{HH}:{mm}", // not the day of the month alone
  hour: "{HH}:{mm}",
  minute: "{HH}:{mm}",
  second: "{HH}:{mm}:{ss}",
};
const made = new Map();
export let look = {}; // the theme's colours, by name
let span = { from_s: 0, to_s: 0, step_s: 1 };

// What all charts over time show: Unix seconds, and how long a point is.
export function reach(from_s, to_s, step_s) {
  span = { from_s, to_s, step_s };
}

// The series of one figure of all points. Where it is not known for longer than a few points the
// line is broken: nothing is said of a time in which nobody looked.
export function track(points, figure) {
  const series = [];
  let last = null;
  for (const point of points) {
    const value = figure(point);
    if (value == null) continue;
    if (last != null && point.t - last > 10 * span.step_s)
      series.push([(last + span.step_s) * 1000, null]);
    series.push([point.t * 1000, value]);
    last = point.t;
  }
  return series;
}

// The same of what is counted: where there are no points, nothing was.
export function counted(points, figure) {
  const series = [];
  let due = null;
  for (const point of points) {
    if (due == null) series.push([(point.t - span.step_s) * 1000, 0]);
    else if (point.t > due + span.step_s)
      series.push([due * 1000, 0], [(point.t - span.step_s) * 1000, 0]);
    series.push([point.t * 1000, figure(point) ?? 0]);
    due = point.t + span.step_s;
  }
  return series;
}

// Whether a value stands alone: no line shows it.
const isAlone = (data, place) => data[place - 1]?.[1] == null && data[place + 1]?.[1] == null;

// Reads the theme's colours; charts made before are drawn anew by the next frame.
export function restyle() {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "ink",
    "soft",
    "line",
    "grid",
    "panel",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "c6",
    ...OUTCOMES,
  ];
  look = Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
  for (const chart of made.values()) chart.dispose();
  made.clear();
}

export function resize() {
  for (const chart of made.values()) chart.resize();
}

// Draws a chart, or says that there is nothing to draw. `summary` is what is read out, and `note`
// what stands beside the title.
export function draw(id, option, { empty = "", summary = "", note: words = "" } = {}) {
  const place = document.getElementById(id);
  const beside = document.getElementById(id.replace("c-", "n-"));
  const said = empty ? "" : words;
  if (beside && beside.textContent !== said) beside.textContent = said;
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", summary || empty);
  let note = place.parentElement.querySelector(".empty");
  if (!note) {
    note = document.createElement("div");
    note.className = "empty";
    place.parentElement.append(note);
  }
  note.textContent = empty;
  note.hidden = !empty;
  if (!made.has(id)) made.set(id, echarts.init(place, null, { renderer: "canvas" }));
  const chart = made.get(id);
  if (empty) {
    chart.clear();
    return;
  }
  chart.setOption(
    { animation: false, textStyle: { color: look.soft, fontFamily: "inherit" }, ...option },
    { notMerge: true, lazyUpdate: true },
  );
}

export function axes({ unit, log = false, max }) {
  const label = { color: look.soft, fontSize: 11 };
  return {
    grid: { left: 8, right: 14, top: 34, bottom: 4, containLabel: true },
    legend: {
      top: 4,
      left: 0,
      itemWidth: 12,
      itemHeight: 8,
      itemGap: 12,
      icon: "roundRect",
      textStyle: { color: look.soft, fontSize: 12 },
      type: "scroll",
      pageTextStyle: { color: look.soft },
    },
    tooltip: tooltip({
      trigger: "axis",
      valueFormatter: (value) => (value == null ? "–" : unit(value)),
    }),
    xAxis: {
      type: "time",
      min: span.from_s * 1000,
      max: span.to_s * 1000,
      axisLine: { lineStyle: { color: look.line } },
      axisLabel: { ...label, hideOverlap: true, formatter: TIMES },
      splitNumber: 4,
    },
    yAxis: {
      type: log ? "log" : "value",
      min: log ? undefined : 0,
      max,
      interval: max ? max / 4 : undefined,
      minInterval: unit === count ? 1 : 0,
      splitNumber: 4,
      axisLabel: { ...label, formatter: unit },
      splitLine: { lineStyle: { color: look.grid } },
    },
  };
}

// Drawn on the canvas: HTML of ECharts' own would need inline styles, which the page forbids.
export function tooltip(more) {
  return {
    renderMode: "richText",
    confine: true,
    backgroundColor: look.panel,
    borderColor: look.line,
    textStyle: { color: look.ink, fontSize: 12 },
    axisPointer: { lineStyle: { color: look.soft } },
    ...more,
  };
}

export function line(name, data, hue, more = {}) {
  return {
    name,
    type: "line",
    data,
    symbol: "circle",
    symbolSize: (_, { dataIndex }) => (isAlone(data, dataIndex) ? 4 : 0),
    connectNulls: false,
    lineStyle: { width: 2 },
    itemStyle: { color: hue },
    ...more,
  };
}

// Horizontal bars, the longest first.
export function bars(id, pairs, how) {
  const { unit = count, hue, max, empty, note, tail = () => "" } = how;
  const { rank = ([, value]) => value, words = (name) => name } = how;
  const rows = pairs
    .sort((one, other) => rank(other) - rank(one))
    .slice(0, MOST_BARS)
    .reverse();
  const label = { color: look.ink, fontSize: 12 };
  draw(
    id,
    {
      grid: { left: 4, right: 64, top: 8, bottom: 4, containLabel: true },
      tooltip: tooltip({ valueFormatter: unit }),
      xAxis: { type: "value", max, show: false },
      yAxis: {
        type: "category",
        data: rows.map(([name]) => words(name)),
        axisTick: { show: false },
        axisLine: { show: false },
        axisLabel: { ...label, width: 150, overflow: "truncate" },
      },
      series: [
        {
          type: "bar",
          barMaxWidth: 18,
          data: rows.map(([, value]) => value),
          itemStyle: { color: hue, borderRadius: [0, 4, 4, 0] },
          label: {
            show: true,
            position: "right",
            color: look.ink,
            fontSize: 12,
            formatter: ({ dataIndex }) => unit(rows[dataIndex][1]) + tail(rows[dataIndex]),
          },
        },
      ],
    },
    {
      empty: rows.length ? "" : empty,
      note: rows.length ? note : "",
      summary: [...rows]
        .reverse()
        .map(([name, value]) => `${words(name)} ${unit(value)}`)
        .join(", "),
    },
  );
}

export function histogram(id, spread, { unit, none }) {
  const names = spread.bounds
    .map((bound, place) => (place === 0 && bound === 0 ? "expired" : `≤ ${unit(bound)}`))
    .concat(`> ${unit(spread.bounds.at(-1))}`);
  const sum = spread.counts.reduce((one, other) => one + other, 0);
  draw(
    id,
    {
      grid: { left: 4, right: 8, top: 20, bottom: 4, containLabel: true },
      tooltip: tooltip({ valueFormatter: count }),
      xAxis: {
        type: "category",
        data: names,
        axisTick: { show: false },
        axisLine: { lineStyle: { color: look.line } },
        axisLabel: { color: look.soft, fontSize: 11, interval: 0, rotate: 38 },
      },
      yAxis: {
        type: "value",
        minInterval: 1,
        splitNumber: 3,
        axisLabel: { color: look.soft, fontSize: 11, formatter: count },
        splitLine: { lineStyle: { color: look.grid } },
      },
      series: [
        {
          type: "bar",
          barCategoryGap: "18%",
          data: spread.counts,
          itemStyle: { color: look.c1, borderRadius: [4, 4, 0, 0] },
        },
      ],
    },
    {
      empty: sum ? "" : none,
      summary: names.map((name, place) => `${name}: ${spread.counts[place]}`).join(", "),
    },
  );
}
