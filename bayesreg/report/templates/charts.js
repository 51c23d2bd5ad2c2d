"use strict";
// Draws with Plotly, in the page's own colours and type. Nothing here keeps state.
const Charts = (() => {
  const config = { displayModeBar: false, responsive: true, doubleClick: false, scrollZoom: false };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // Plotly reads some tags, and formulas between dollars, in its texts: a feature's name has none.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/[$]/g, "&#36;");

  const shorter = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 6)}…${text.slice(-5)}`);

  const number = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 1e6 || size < 1e-4 ? value.toExponential(digits - 1) : value.toPrecision(digits);
    const [head, exponent] = (text.includes("e") ? String(Number(text)) : text).split("e");
    return (exponent ? `${head}e${Number(exponent)}` : head).replace(/-/g, "−");
  };

  const axis = (more) => ({
    color: colour("muted"), gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"),
    fixedrange: true, automargin: true, ticks: "", ...more,
  });

  // The largest strength is on the left, as in the package's figures.
  const strength = (title) =>
    axis({ type: "log", autorange: "reversed", title: { text: title, font: { size: 12 } }, tickformat: "~g", dtick: 1 });

  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    margin: { l: 8, r: 12, t: 12, b: 8 }, hovermode: "closest", hoverdistance: 30,
    hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12 } },
    ...more,
  });

  const upright = (x, name, dash = "solid") =>
    ({ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: colour(name), width: 1.5, dash } });

  const band = (x, lower, upper, name) => [
    { x, y: lower, mode: "lines", line: { width: 0 }, hoverinfo: "skip" },
    { x, y: upper, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: colour(name), hoverinfo: "skip" },
  ];

  const line = (x, y, name, more = {}) =>
    ({ x, y, mode: "lines", line: { color: colour(name), width: 2 }, hoverinfo: "skip", ...more });

  const pointed = { hoverinfo: "all", hovertemplate: "%{y:.4~g} at lambda %{x:.3~g}<extra></extra>" };

  // As wide as its place: Plotly sees to that on a screen, but not in time for paper.
  const draw = (id, traces, layoutOf) => {
    const div = typeof id === "string" ? document.getElementById(id) : id;
    const width = document.documentElement.hasAttribute("data-print") ? { width: div.clientWidth } : {};
    Plotly.react(div, traces, layout({ ...layoutOf, ...width }), config);
  };

  // One row a coefficient: the interval, the posterior mean, the MAP.
  const coefficients = (view) => {
    const rows = view.features.map((_, index) => index);
    const posterior = view.posterior;
    const traces = [];
    // With its Monte Carlo standard error, where a number comes from draws.
    const known = (name, row) => number(posterior[name][row]) +
      (posterior.mcse_mean ? ` ± ${number(posterior[`mcse_${name}`][row], 2)}` : "");
    const said = rows.map((row) => plain(view.features[row]) + `<br>MAP ${number(view.map[row])}` + (posterior
      ? `<br>mean ${known("mean", row)}<br>${view.percent} interval ${known("lower", row)} to ${known("upper", row)}`
      : "") + (posterior && posterior.mcse_mean ? "<br>±: Monte Carlo standard errors" : ""));
    const hover = { text: said, hovertemplate: "%{text}<extra></extra>" };
    if (posterior) {
      traces.push({
        x: posterior.mean, y: rows, mode: "markers", marker: { color: colour("blue"), size: 8 }, ...hover,
        error_x: {
          type: "data", symmetric: false, color: colour("blue"), thickness: 2, width: 0,
          array: rows.map((row) => posterior.upper[row] - posterior.mean[row]),
          arrayminus: rows.map((row) => posterior.mean[row] - posterior.lower[row]),
        },
      });
    }
    traces.push({
      x: view.map, y: rows, mode: "markers", ...hover,
      marker: { color: colour("vermillion"), size: 9, symbol: "diamond-open", line: { width: 2 } },
    });
    const each = rows.length > 20 ? 20 : 30;
    draw("coefficients", traces, {
      height: Math.max(240, each * rows.length + 60),
      xaxis: axis({ range: view.range, zeroline: true, zerolinewidth: 1.5 }),
      yaxis: axis({
        tickvals: rows, ticktext: view.features.map((name) => plain(shorter(name, 18))), range: [rows.length - 0.4, -0.6],
        zeroline: false, color: colour("ink"),
      }),
      shapes: [{
        type: "rect", xref: "paper", yref: "y", x0: 0, x1: 1, y0: view.feature - 0.5, y1: view.feature + 0.5,
        fillcolor: colour("panel"), line: { width: 0 }, layer: "below",
      }],
    });
  };

  const density = (view) => {
    const curve = view.density;
    const traces = [line(curve.x, curve.prior, "muted", { line: { color: colour("muted"), width: 1.5, dash: "dot" } })];
    if (curve.posterior) {
      traces.push(line(curve.x, curve.posterior, "blue", { fill: "tozeroy", fillcolor: colour("band") }));
    }
    const shapes = [upright(view.map[view.feature], "vermillion")];
    const height = Math.max(...(curve.posterior || curve.prior));
    draw("density", traces, {
      height: 250, shapes,
      xaxis: axis({ range: [curve.x[0], curve.x[curve.x.length - 1]], zeroline: true }),
      yaxis: axis({ range: [0, 1.08 * height], showticklabels: false, showgrid: false, zeroline: false }),
    });
  };

  const path = (view) => {
    const x = view.strengths;
    const traces = view.features.map((name, index) => ({
      x, y: view.axis.map.map((row) => row[index]), mode: "lines", name: plain(name),
      line: { color: colour("muted"), width: 1 }, opacity: 0.55, hovertemplate: "%{fullData.name}<extra></extra>",
    }));
    const posterior = view.axis.posterior;
    if (posterior) {
      const of = (name) => posterior[name].map((row) => row[view.feature]);
      traces.unshift(...band(x, of("lower"), of("upper"), "band"));
    }
    traces.push(line(x, view.axis.map.map((row) => row[view.feature]), "blue", { line: { color: colour("blue"), width: 2.5 } }));
    draw("path-chart", traces, {
      height: 250, xaxis: strength(view.axisTitle), yaxis: axis({ zeroline: true }), shapes: view.lines(),
    });
  };

  const losses = (view) => {
    const x = view.strengths, held = view.axis.held_out;
    const traces = [];
    if (held) {
      if (held.standard_error) {
        const add = (sign) => held.loss.map((loss, index) => loss + sign * held.standard_error[index]);
        traces.push(...band(x, add(-1), add(1), "band-green"));
      }
      traces.push(line(x, held.loss, "green", pointed));
    }
    traces.push(line(x, view.axis.train_loss, "blue", pointed));
    draw("losses", traces, {
      height: 250, xaxis: strength(view.axisTitle), yaxis: axis({ zeroline: false }), shapes: view.lines(),
    });
  };

  const evidence = (view) => {
    const heights = view.axis.log_evidence;
    if (!heights) return;
    // What is 20 nats below the best is out of the question: the axis ends there.
    const least = Math.max(-20, Math.min(...heights));
    draw("evidence", [line(view.strengths, heights, "blue", pointed)], {
      height: 250, xaxis: strength(view.axisTitle), shapes: view.lines(),
      yaxis: axis({ range: [1.06 * least, -0.08 * least], zeroline: false }),
    });
  };

  const predictive = (div, chart) => {
    const x = chart.centres;
    draw(div, [
      { type: "bar", x, y: chart.observed, width: chart.width * 0.94, marker: { color: colour("line") }, hovertemplate: "%{y} observed<extra></extra>" },
      ...band(x, chart.lower, chart.upper, "band"),
      line(x, chart.median, "blue"),
    ], {
      height: 280, xaxis: axis({ title: { text: plain(chart.target), font: { size: 12 } }, showgrid: false, zeroline: false }),
      yaxis: axis({ title: { text: "rows", font: { size: 12 } }, rangemode: "tozero" }), bargap: 0,
    });
  };

  return { number, plain, upright, coefficients, density, path, losses, evidence, predictive };
})();
