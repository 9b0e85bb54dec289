// Reads the document, gives it to the page, and paints the page like the rest of the reader's screen.
const COLORS = {
  light: {
    "bg-color": "#ffffff", "text-color": "#1f2933", "primary-color": "#0b6b8a", "nav-bg-color": "#f4f7f9",
    "nav-text-color": "#3e4c59", "nav-hover-bg-color": "#e4ebf0", "nav-hover-text-color": "#102a43",
    "nav-accent-color": "#d5e7ee", "nav-accent-text-color": "#0b4f66",
  },
  dark: {
    "bg-color": "#14181c", "text-color": "#d5dbe1", "primary-color": "#56b6d6", "nav-bg-color": "#1a2026",
    "nav-text-color": "#a9b6c2", "nav-hover-bg-color": "#252d35", "nav-hover-text-color": "#ffffff",
    "nav-accent-color": "#1f4553", "nav-accent-text-color": "#e6f6fb",
  },
};

const page = document.querySelector("rapi-doc");
const isDark = matchMedia("(prefers-color-scheme: dark)");

function paint() {
  const theme = isDark.matches ? "dark" : "light";
  page.setAttribute("theme", theme);
  for (const [name, color] of Object.entries(COLORS[theme])) page.setAttribute(name, color);
}

// The page knows no QUERY: it reads it as HEAD, which we have nowhere, and shows it by its own name.
function hideQueries(document) {
  for (const item of Object.values(document.paths)) {
    if (!item.query) continue;
    item.head = item.query;
    delete item.query;
  }
}

function showQueries({ detail: document }) {
  for (const operation of document.tags.flatMap((tag) => tag.paths)) {
    if (operation.method === "head") operation.method = "query";
  }
  page.requestUpdate();
}

async function show() {
  const document = await (await fetch("/v1/openapi.json")).json();
  document.servers = [{ url: `${location.origin}/v1` }];
  hideQueries(document);
  await page.loadSpec(document);
}

page.addEventListener("spec-loaded", showQueries);
isDark.addEventListener("change", paint);
paint();
show();
