// The page at /docs: openapi.json as a list.
"use strict";

(async () => {
  const { paths } = await (await fetch("openapi.json")).json();
  const items = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).flatMap(([method, route]) => {
    const name = document.createElement("dt");
    name.textContent = `${method.toUpperCase()} ${path}`;
    const what = document.createElement("dd");
    what.textContent = `${route.summary} `;
    const list = document.createElement("ul");
    list.append(...Object.entries(route.responses).map(([status, answer]) => {
      const item = document.createElement("li");
      item.textContent = `${status}: ${answer.description}`;
      return item;
    }));
    what.append(list);
    return [name, what];
  }));
  document.getElementById("routes").replaceChildren(...items);
})();
