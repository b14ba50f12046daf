"""What a reader needs beside a method: its formula line by line, the symbols in words, BibTeX.

Reads: the labels it is given. Writes: nothing. Never: Streamlit, torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kdengine.catalogue import Label
from pages.parts import words

# (what stands in a formula, how the legend shows it, what it means); the first that fits of equal signs counts
GLOSSARY: tuple[tuple[str, str, str], ...] = (
    (r"\\mathcal\{L\}", r"\mathcal{L}", "the loss: what training makes small"),
    (r"\\mathrm\{CE\}", r"\mathrm{CE}", "cross-entropy with the label: small when the right class gets a high probability"),
    (r"\\mathrm\{KL\}", r"\mathrm{KL}", "how far two sets of probabilities are apart (Kullback-Leibler); 0 when they are equal"),
    (r"\\mathrm\{softmax\}", r"\mathrm{softmax}", "turns scores into probabilities that sum to 1"),
    (r"z_s", "z_s", "the student's scores, one per class, before they become probabilities (logits)"),
    (r"z_t", "z_t", "the teacher's scores (logits)"),
    (r"z_g\b", r"z_g,\ z_{g-1}", "scores (logits) of this generation and of the one before"),
    (r"z_i\b", "z_i", "scores (logits) of network i"),
    (r"z_n\b", "z_n", "the network's scores for image n, one per class (logits)"),
    (r"z_y", "z_y", "the score of the right class"),
    (r"(?<![a-z_])y\)|\)_\{y", "y", "the label: the right class"),
    (r"p_t\^T", r"p_t^T,\ p_s^T", "probabilities of teacher and student at temperature T"),
    (r"p_j", r"p_i,\ p_j", "probabilities that networks i and j give"),
    (r"/T\b|T\^2|_T\(", "T", "temperature: above 1 it flattens probabilities, so that small ones count more"),
    (r"\\lambda_\{ce\}", r"\lambda_{ce}", "weight of the label term, a knob"),
    (r"\\lambda_\{kd\}", r"\lambda_{kd}", "weight of what the other network says, a knob"),
    (r"\\lambda\\,", r"\lambda", "weight of the soft answers; it changes while training"),
    (r"\\beta", r"\beta", "weight of the method's own term, a knob"),
    (r"w_d", r"w_d,\ w_a", "weights of distances and of angles, knobs"),
    (r"w_v", r"w_v,\ w_e,\ w_t", "weights of images, relations and their changes, knobs"),
    (r"w_k", "w_k", "how much channel k speaks for the right class"),
    (r"\\frac\{1\}\{B|\{B[\^}\\]|\}B\}|\\beta\}\{B", "B", "number of images in a batch"),
    (r"n-1\}", "n", "number of networks that learn together"),
    (r"n/M", r"n,\ M", "number of entries compared with, and of training images"),
    (r"B K\}", "K", "number of classes"),
    (r"F_[st]|F_s\^|F_t\^", r"F_s,\ F_t", "inner maps of student and teacher"),
    (r"F_[ck]|F_\{khw", "F_c", "channel c (or k) of a map"),
    (r"r\(F_s\)", "r", "a small learnt layer that gives the student's map the teacher's shape"),
    (r"Q_s", "Q", "attention map: where in the image a network is active"),
    (r"\|F_c\|\^p", "p", "the power of activity that counts, a knob"),
    (r"M_s", "M", "attention map of the right class (Grad-CAM)"),
    (r"f_t\^", r"f_t,\ f_s", "factors: maps in the common form into which two small networks bring them"),
    (r"A B\^", r"A,\ B", "two consecutive maps of a network, one row per channel"),
    (r"A A\^", "A", "maps of the batch, one row per image"),
    (r"G_s\^|G =", "G", "table of which channels of two maps are active together"),
    (r"G_s -", "G", "table of how alike every two images of the batch are"),
    (r"K_s", "K", "table of how alike every two images of the batch are (a kernel)"),
    (r"\\gamma", r"\gamma,\ P", "how fast likeness falls with distance, and how exactly it is computed; knobs"),
    (r"E\^s", "E", "table of distances between the images of a batch at map l"),
    (r"T\^s", r"T^s,\ T^t", "how an image moves from one map to the next"),
    (r"e_i", "e_i", "embedding of image i: the list of numbers before the last layer"),
    (r"P\^t_", r"P_{j|i}", "chance of meeting image j from image i: the more alike, the higher"),
    (r"d\^s_", r"d_{ij}", "distance between two images, in units of the mean distance"),
    (r"\\angle", r"\angle_{ijk}", "angle at image j between images i and k"),
    (r"h\\!", "h", "Huber loss: the square for small differences, the plain distance for large ones"),
    (r"h_v", "h_v(i,j)", "score of image i against entry j of the other network's memory"),
    (r"k\(a, b\)", r"k,\ s_c,\ t_c", "likeness (k) of the activity patterns of channels of student and teacher"),
    (r"\\max\(s\+m", r"s,\ t,\ m", "values of student and teacher before the ReLU, and a margin"),
    (r", m_c\)", "m_c", "the mean negative value of channel c, from the teacher's BatchNorm"),
    (r"2\^\{L-l\}", "2^{L-l}", "earlier maps count less: half from each map to the one before"),
    (r"\\alpha_\{nts\}", r"\alpha_{nts}", "how much map t of the teacher listens to map s of the student, learnt"),
    (r"v_s\}", r"v_s,\ v_t", "activity of a map, a number per place"),
    (r"\\rho", r"\rho_{nc}", "how much channel c counts for image n, learnt"),
    (r"\\sigma_c", r"\sigma_c^2", "how uncertain the prediction of channel c is, learnt"),
    (r"g_s\^", "g", "gradient: how the right class's score changes with each pixel"),
    (r"\\nabla", "g", "gradient: the direction of pixels in which the teacher's answer flips soonest"),
    (r"\\tilde\{x\}", r"\tilde{x}", "the image, moved to the border between two classes"),
    (r"s_y - s_k", r"s_y,\ s_k", "the teacher's scores of the right class and of the class aimed at"),
    (r"r\(e\)", r"r(e),\ a(e)", "weights that fall from epoch to epoch"),
    (r"\\eta", r"\eta", "length of a step, a knob"),
    (r"_l\b|\^l|\^\{l\}|\\sum_l|_\{l=", "l", "which of the compared maps"),
    (r"H_?l? ?W|HW|H\\,W|H_t W_t", r"H,\ W", "height and width of a map"),
    (r"C_l|C\\,H|C H|\{C\}", "C", "number of channels of a map"),
    (r"\\overline", r"\overline{\,\cdot\,}", "mean over all entries"),
    (r"\\langle", r"\langle\cdot,\cdot\rangle", "inner product: large when two lists of numbers point the same way"),
    (r"\\\|_F", r"\|\cdot\|_F^2", "sum of squares of all entries of a table"),
    (r"\\\|_2", r"\|\cdot\|_2", "length of a list of numbers"),
    (r"\\\|_1", r"\|\cdot\|_1", "sum of the sizes of all entries"),
    (r"\\epsilon", r"\epsilon", "a tiny number that keeps divisions safe"),
)  # fmt: skip

SHORT, LONG = 60, 100  # characters of LaTeX: up to SHORT any screen has room, beyond LONG a phone has none at full size
DEPTH = r"\rule[-1.2em]{0em}{1em}"  # room below, where a display would cut the foot of a fraction
JOURNALS = {"Nature", "arXiv"}  # every other venue of our cards is a conference


def formula_lines(formula: str) -> list[str]:
    r"""Return the formulas of a LaTeX text that stand side by side (``,\quad``), one each, long ones with a line per term."""
    lines = [line.strip() for line in re.split(r",\s*\\q?quad", formula)]
    return [_by_terms(line) + (DEPTH if r"\frac" in line else "") for line in lines if line]


def _by_terms(line: str) -> str:
    """Break a formula before each plus or minus that stands in no bracket, so that it fits a narrow column."""
    terms, depth, start = [], 0, 0
    for found in re.finditer(r"\\left\b|\\right\b|[{(\[]|[})\]]|(?<= )[+-](?= )", line):
        if found[0] in "+-":
            if depth == 0:
                terms.append(line[start : found.start()])
                start = found.start()
        else:
            depth += 1 if found[0] in ("{", "(", "[", r"\left") else -1
    terms.append(line[start:])
    head, _, first = terms[0].partition(" = ")
    if len(terms) == 1 or len(line) < SHORT or not first:
        return rf"\small {line}" if len(line) > LONG else line
    rest = "".join(rf" \\ &{{}} {term.strip()}" for term in terms[1:])
    size = r"\small " if max(map(len, terms)) > LONG else ""
    return rf"{size}\begin{{aligned}} {head} ={{}}& {first.strip()}{rest} \end{{aligned}}"


def symbols(formula: str) -> list[tuple[str, str]]:
    """Return the symbols of a formula that the glossary knows: (LaTeX, meaning), every sign once."""
    found: dict[str, str] = {}
    for pattern, shown, meaning in GLOSSARY:
        if re.search(pattern, formula):
            found.setdefault(shown, meaning)
    return list(found.items())


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation in its parts; ``venue`` without the year."""

    authors: tuple[str, ...]
    title: str
    venue: str
    year: int


def citation_of(text: str) -> Citation | None:
    """Return the parts of ``A. Author, B. Author, Title, VENUE YEAR``; None where the text has another form."""
    parts = text.split(", ")
    if parts and re.fullmatch(r"\d{4}", parts[-1]):
        parts[-2:] = [f"{parts[-2]} {parts[-1]}"] if len(parts) > 1 else parts
    authors = []
    while parts and re.match(r"^(?:[A-Z]\.[- ]?)+", parts[0]):
        authors.append(parts.pop(0))
    ending = re.fullmatch(r"(.+?) (\d{4})( .+)?", parts[-1]) if parts else None
    if not authors or len(parts) < 2 or ending is None:
        return None
    return Citation(tuple(authors), ", ".join(parts[:-1]), ending[1] + (ending[3] or ""), int(ending[2]))


def bibtex(label: Label) -> str:
    """Return an entry for a bibliography; the whole citation as a note where its parts cannot be told apart."""
    cited = citation_of(label.citation)
    link = label.links[0] if label.links else ""
    if cited is None:
        fields = {"note": label.citation, "year": str(label.year), "url": link}
        kind = "misc"
    else:
        kind = "article" if cited.venue in JOURNALS else "inproceedings"
        place = "journal" if kind == "article" else "booktitle"
        fields = {"author": " and ".join(cited.authors), "title": cited.title, place: cited.venue}
        fields |= {"year": str(cited.year), "url": link}
    body = "".join(f"  {name:<9} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{kind}{{{label.key}{label.year},\n{body}}}"


def prose(text: str) -> str:
    """Return a sentence of a docstring as markdown: what stands in double backquotes is code, all else is shown as it is."""
    pieces = text[:1].upper() + text[1:]
    return "".join(f"`{piece}`" if place % 2 else words.escaped(piece) for place, piece in enumerate(pieces.split("``")))
