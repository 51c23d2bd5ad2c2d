"use strict";
// The explorer's state is the controls' own values; each change of one draws what depends on it.
(() => {
  const page = JSON.parse(document.getElementById("document").textContent);
  const data = page.explorer;
  const at = (id) => document.getElementById(id);
  const { number } = Charts;

  const drawPredictive = () =>
    document.querySelectorAll("[data-predictive]").forEach((div, index) => Charts.predictive(div, page.predictive.filter(Boolean)[index]));

  if (!data.axes || !data.axes.l2) {
    watch(drawPredictive);
    drawPredictive();
    return;
  }

  const axis = () => data.axes[at("prior").value];
  // The strengths ascend; the slider, as all axes of lambda, has the largest on its left.
  const indexAt = (place, one) => one.lambdas.length - 1 - place;
  const step = (one) => indexAt(Number(at("lambda").value), one);
  const convention = () => data.conventions.find((row) => row.name === at("convention").value);
  const factor = () => convention()[at("prior").value];
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });

  const argmin = (values) => values.indexOf(Math.min(...values));

  // The range of all coefficients over the axis, so that they are seen to move and not their axis.
  const rangeOf = (one) => {
    const posterior = one.posterior, values = one.map.flat();
    if (posterior) values.push(...posterior.lower.flat(), ...posterior.upper.flat());
    const low = Math.min(0, ...values), high = Math.max(0, ...values), margin = 0.04 * (high - low) || 1;
    return [low - margin, high + margin];
  };
  const ranges = Object.fromEntries(Object.entries(data.axes).map(([kind, one]) => [kind, rangeOf(one)]));

  const priorDensity = (kind, scale, x) => (kind === "l2"
    ? Math.exp(-0.5 * (x / scale) ** 2) / (scale * Math.sqrt(2 * Math.PI))
    : Math.exp(-Math.abs(x) / scale) / (2 * scale));

  // The posterior of a coefficient: Normal under a Gaussian prior, as it was computed under a Laplace prior.
  const densityOf = (one, kind, index, feature) => {
    const scale = one.prior_scales[index], posterior = one.posterior, drawn = posterior && posterior.density;
    let x, heights = null;
    if (drawn) {
      const [first, last] = posterior.density_range[index][feature], values = drawn[index][feature];
      x = values.map((_, position) => first + ((last - first) * position) / (values.length - 1));
      heights = values;
    } else if (posterior) {
      const mean = posterior.mean[index][feature], sd = posterior.sd[index][feature];
      x = Array.from({ length: 121 }, (_, position) => mean + sd * (position / 15 - 4));
      heights = x.map((value) => priorDensity("l2", sd, value - mean));
    } else {
      x = Array.from({ length: 121 }, (_, position) => scale * (position / 15 - 4));
    }
    return { x, posterior: heights, prior: x.map((value) => priorDensity(kind, scale, value)) };
  };

  const view = () => {
    const kind = at("prior").value, one = axis(), index = step(one), times = factor();
    const names = ["mean", "sd", "lower", "upper", "mcse_mean", "mcse_lower", "mcse_upper"];
    const posterior = one.posterior && Object.fromEntries(
      names.filter((name) => name in one.posterior).map((name) => [name, one.posterior[name][index]]));
    const strengths = one.lambdas.map((value) => value * times);
    return {
      kind, index, axis: one, strengths, posterior, map: one.map[index], features: data.features, range: ranges[kind],
      feature: Number(at("feature").value), percent: `${Math.round(100 * data.interval)}%`,
      density: densityOf(one, kind, index, Number(at("feature").value)), axisTitle: `lambda (${at("convention").value})`,
      lines: () => [...one.marks.map((mark) => Charts.upright(strengths[mark.index], "muted", "dot")), Charts.upright(strengths[index], "vermillion")],
    };
  };

  // How well mean and interval are known, where they come from draws.
  const errors = (now) => {
    if (!now.posterior) return [];
    if (!now.posterior.mcse_mean) return now.kind === "l2" ? ["All of it is exact: nothing is drawn."] : [];
    const of = (name) => number(now.posterior[name][now.feature], 2);
    return [`From draws, with a Monte Carlo standard error of ${of("mcse_mean")} (mean), ${of("mcse_lower")} and ${of("mcse_upper")} (ends). The MAP is exact.`];
  };

  // What the symbols of the objective are; a run of an older version has not stored it.
  const symbols = () => (convention().symbols ? [convention().symbols[at("prior").value]].filter(Boolean) : []);

  const show = (now) => {
    const one = now.axis, index = now.index, gaussian = now.kind === "l2", held = one.held_out;
    const scale = one.prior_scales[index];
    at("show-lambda").textContent = number(now.strengths[index]);
    at("show-convention").textContent = `in ${convention().name}`;
    at("objective").textContent = [`Objective of ${convention().name}: ${convention().objective}`, ...symbols()].join("; ").replaceAll(" = ", "\u00a0=\u00a0");
    at("scale-name").textContent = gaussian ? "prior scale t" : "prior scale b";
    at("show-scale").textContent = number(scale);
    at("scale-means").textContent = gaussian ? "standard deviation of a weight" : "mean absolute value of a weight";
    at("show-nonzero").textContent = `${one.nonzero[index]} of ${data.features.length + data.left_out}`;
    at("nonzero-means").textContent = gaussian ? "a Gaussian prior sets none to 0" : "the others are exactly 0";
    at("path-key").textContent = `blue: ${data.features[now.feature]}${now.posterior ? ` and its ${now.percent} interval` : ""}`;
    at("path-words").textContent = page.certified[now.kind];
    at("loss-key").textContent = held ? `blue: training; green: held out${held.standard_error ? " ± one s.e." : ""}` : "training";
    at("show-train").textContent = number(one.train_loss[index], 4);
    at("show-held-out").textContent = held ? number(held.loss[index], 4) + (held.standard_error ? ` ± ${number(held.standard_error[index], 2)}` : "") : "–";
    at("held-out-means").textContent = held ? held.what : "not computed";
    at("show-evidence").textContent = one.log_evidence ? number(one.log_evidence[index], 3) : "–";
    const error = one.log_evidence_error;
    at("evidence-means").textContent = one.log_evidence ? `nats from the best${error ? `, ± ${number(error[index], 2)}` : ""}` : "not computed";
    at("lambda").setAttribute("aria-valuetext", `lambda ${number(now.strengths[index])}, prior scale ${number(scale)}`);
    at("density-name").textContent = now.posterior ? `Posterior of ${data.features[now.feature]}` : `Prior of ${data.features[now.feature]}`;
    at("density-key").textContent = now.posterior ? "blue: posterior; dotted: prior; orange: MAP" : "dotted: prior; orange: MAP";
    at("coefficients-key").textContent = now.posterior ? `orange: MAP; blue: posterior mean and ${now.percent} interval` : "orange: MAP";
    const words = [`${data.features[now.feature]}: MAP ${number(now.map[now.feature])}`];
    if (now.posterior) {
      const of = (name) => number(now.posterior[name][now.feature]);
      words.push(`posterior mean ${of("mean")}`, `${now.percent} interval ${of("lower")} to ${of("upper")}`);
    }
    at("density-words").textContent = [`${words.join(", ")}.`, ...errors(now)].join(" ");
  };

  // What is looked at first is drawn first, and what is no longer wanted not at all.
  let waiting = 0;
  const first = (now) => {
    Charts.coefficients(now);
    Charts.density(now);
    listen();
  };
  const rest = (now) => {
    Charts.path(now);
    Charts.losses(now);
    Charts.evidence(now);
    listen();
  };
  const draw = () => {
    show(view());
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      const now = view();
      first(now);
      waiting = requestAnimationFrame(() => rest(now));
    });
  };

  // A coefficient pointed at is the one in detail; a strength clicked on is the one chosen.
  const choose = (event) => {
    const row = String(Math.round(event.points[0].y));
    if (row === at("feature").value) return;
    at("feature").value = row;
    draw();
  };
  const jump = (event) => {
    const strengths = view().strengths;
    goTo(argmin(strengths.map((value) => Math.abs(Math.log(value / event.points[0].x)))));
  };
  const heard = { coefficients: ["plotly_hover", "plotly_click"], losses: ["plotly_click"], "path-chart": ["plotly_click"], evidence: ["plotly_click"] };
  const listen = () => {
    for (const [id, events] of Object.entries(heard)) {
      if (!at(id).on) continue;
      for (const event of events) at(id).on(event, id === "coefficients" ? choose : jump);
      delete heard[id];
    }
  };

  const goTo = (index) => {
    at("lambda").value = indexAt(index, axis());
    draw();
  };

  const jumpsOf = (one) => {
    const jumps = one.marks.map((mark) => [mark.label, mark.index]);
    if (one.held_out) jumps.push(["smallest held-out loss", argmin(one.held_out.loss)]);
    if (one.log_evidence) jumps.push(["largest evidence", argmin(one.log_evidence.map((value) => -value))]);
    return jumps;
  };

  // What the prior decides: the axis, the conventions that have such a penalty, the strengths to jump to.
  const prior = (index) => {
    const kind = at("prior").value, one = axis(), wanted = at("convention").value || page.convention;
    const rows = data.conventions.filter((row) => kind in row);
    at("convention").replaceChildren(...rows.map((row) => option(row.name, row.name)));
    at("convention").value = (rows.find((row) => row.name === wanted) || rows[0]).name;
    at("lambda").max = one.lambdas.length - 1;
    at("jumps").replaceChildren(...jumpsOf(one).map(([label, target]) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
      button.addEventListener("click", () => goTo(target));
      return button;
    }));
    at("evidence").closest("figure").hidden = !one.log_evidence;
    goTo(index);
  };

  const nearestScale = (one, scale) => argmin(one.prior_scales.map((value) => Math.abs(Math.log(value / scale))));

  const start = () => {
    const marked = Object.keys(data.axes).find((kind) => data.axes[kind].marks.length) || data.first || "l2";
    at("prior").value = marked;
    at("feature").replaceChildren(...data.features.map((name, index) => option(index, name)));
    const one = axis(), index = one.marks.length ? one.marks[0].index : jumpsOf(one)[0][1];
    const sizes = one.map[index].map(Math.abs);
    at("feature").value = sizes.indexOf(Math.max(...sizes));
    prior(index);
  };

  at("prior").addEventListener("change", () => {
    const other = data.axes[at("prior").value === "l2" ? "l1" : "l2"];
    prior(nearestScale(axis(), other.prior_scales[step(other)]));
  });
  at("lambda").addEventListener("input", draw);
  at("convention").addEventListener("change", draw);
  at("feature").addEventListener("change", draw);
  const drawAll = () => {
    first(view());
    rest(view());
    drawPredictive();
  };
  start();
  setTimeout(drawPredictive);
  watch(drawAll);

  // Colours follow the system's; on paper they are light.
  function watch(redraw) {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    const paper = (on) => {
      document.documentElement.toggleAttribute("data-print", on);
      if (on) document.querySelectorAll("details").forEach((one) => { one.open = true; });
      redraw();
    };
    matchMedia("print").addEventListener("change", (event) => paper(event.matches));
    addEventListener("beforeprint", () => paper(true));
    addEventListener("afterprint", () => paper(false));
  }
})();
