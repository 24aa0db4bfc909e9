"""Subsets of responses by what Cellosaurus says about their cell lines."""

from test_original import command

from analysis.cli import main

CELLOSAURUS = """<Cellosaurus><header/><cell-line-list>
<cell-line sex="Female" age="31Y3M"><accession-list><accession type="secondary">CVCL_X</accession>
<accession type="primary">CVCL_0030</accession></accession-list>
<name-list><name type="identifier">HeLa</name><name type="synonym">He,La [old]</name></name-list>
<comment-list><comment category="Population"> African
 American </comment></comment-list><xref-list><xref accession="ACH-001086"/></xref-list></cell-line>
<cell-line sex="Sex unspecified" age="Age unspecified"><accession-list><accession type="primary">CVCL_1</accession>
</accession-list><name-list><name>MC</name><name/><name>HeLa</name></name-list><xref-list><xref/></xref-list></cell-line>
<cell-line><accession-list/><name-list><name>no accession</name></name-list></cell-line>
<cell-line><accession-list><accession type="primary">CVCL_2</accession></accession-list></cell-line>
</cell-line-list></Cellosaurus>"""


def test_cell_grep(tmp_path, capsys):
    (tmp_path / "c.xml").write_text(CELLOSAURUS)
    table, data = tmp_path / "table.tsv", tmp_path / "gdsc.csv"
    assert command("cell-grep", "extract", tmp_path / "c.xml", table) == ["count: 3"]
    assert table.read_text() == (
        "CVCL_0030\tFemale\t31\tAfrican American\tHeLa,He La,ACH-001086\nCVCL_1\tNone\tNone\tNone\tMC,HeLa\n"
        "CVCL_2\tNone\tNone\tNone\t\n"
    )
    rows = ['1,"x,\n y",HeLa\n', "2,z,MC\n", "3,z,nobody\n", "4,z,ACH-001086\n"]
    heading = "\ufeffDATASET,NOTE,CELL_LINE_NAME\n"  # as spreadsheets write it
    data.write_text(heading + "\n".join(rows))
    out = tmp_path / "out.csv"
    for arguments, chosen in (
        (["Female", out], [0, 3]),
        (["--negate", "Female", out], [1]),
        (["", out, "--sex", "Female", "--age", "30-40", "--population", "African"], [0, 3]),
        (["", out, "--alias", "MC"], [1]),
        *((["", out, "--age", years], [0, 3]) for years in ("25-31", "31")),
        *((["", out, "--age", years], []) for years in ("25-30", "30", "32-60")),
        *((["", out, *option], []) for option in (["--sex", "Male"], ["--population", "Asia"])),
    ):
        command("cell-grep", data, table, *arguments)
        assert out.read_text() == heading + "".join(rows[n] for n in chosen)
    capsys.readouterr()
    counts = "cell lines: found=3 , not found=1 , selected={}"
    for options, printed, noted in (([], heading + rows[1], counts.format(1) + "\n"), (["-q"], heading + rows[1], "")):
        assert main(["cell-grep", *options, "--alias", "MC", str(data), str(table)]) == 0
        assert capsys.readouterr() == (printed, noted)
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[::-1]))  # HeLa is the recommended name of the other, wherever that stands
    out.write_text("kept")
    assert command("cell-grep", "-c", data, table, "Female", out) == [counts.format(2)] and out.read_text() == "kept"
    data.write_text("\ufeffCELL_LINE_NAME\nMC\n")
    assert command("cell-grep", "-q", data, table, "CVCL_1") == data.read_text().splitlines()


def test_what_is_wrong_with_a_table_of_cells_is_said(tmp_path, capsys):
    table, data, xml = tmp_path / "table.tsv", tmp_path / "data.csv", tmp_path / "c.xml"
    good, heading = "CVCL_1\tNone\tNone\tNone\tMC\n", "A,CELL_LINE_NAME\n"
    for in_table, in_data, options, message in (
        (good, "A,B\n", [], f"{data} has no column CELL_LINE_NAME: it has A, B"),
        (good, "", [], f"{data} has no column CELL_LINE_NAME: it has nothing"),
        (good, f"{heading}1,MC\n2\n", [], f"{data}:3: 1 of 2 fields"),
        (f"{good}CVCL_2\tNone\n", heading, [], f"{table}:2: 2 fields, not 5"),
        (good, heading, ["--age", "old"], "--age old: give years, such as 60 or 40-60"),
    ):
        table.write_text(in_table)
        data.write_text(in_data)
        assert main(["cell-grep", str(data), str(table), "x", *options]) == 2
        assert capsys.readouterr().err == f"cell-grep: {message}\n"
    xml.write_text(CELLOSAURUS[:-20])
    assert main(["cell-grep-extract", str(xml), str(tmp_path / "new.tsv")]) == 2
    assert f"{xml}: no whole XML: " in capsys.readouterr().err and not (tmp_path / "new.tsv").exists()
