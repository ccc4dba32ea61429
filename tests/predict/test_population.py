"""Who is asked: fields of any name, bands of ages, and lists of personas as other programs write them."""

import json

import numpy as np
import pandas as pd
import pytest

from socrates.errors import SocratesError
from socrates.predict.personas import clean_personas, read_table, unseen, years_of
from socrates.predict.population import Population, read_personas
from socrates.schema import validate


def listed(folder, text, name="people.csv", encoding="utf-8", **options):
    (folder / name).write_bytes(text.encode(encoding))
    return read_personas(folder / name, **options)


def population(**described):
    return validate(Population, described, "experiment.json")


HALVES = {"a": 0.5, "b": 0.5}

MALFORMED_FILES = {
    "a misspelt column": (
        "age,educaton\n34,BA\n",
        'line 1: the column "educaton" is no known field; did you mean "education"? '
        'Call a field of your own "educaton of the person", say',
    ),
    "a misspelt weight": ("age,wieght\n34,2\n", 'did you mean "weight"?'),
    "two columns of one meaning": (
        "sex,age,Gender\nF,34,F\n",
        'the column "Gender" means the same as "sex"; leave one',
    ),
    "two weights": ("age,wt,weight\n34,1,2\n", 'the column "weight" means the same as "wt"'),
    "one field of one's own twice": ("faith,Faith\na,b\n", 'the column "Faith" means the same as "faith"'),
    "a column of predictions.csv": ("age,Condition\n34,a\n", '"Condition" has the name of a column of predictions.csv'),
    "a control character in a name": ("age,a\x07b\n34,x\n", "holds a control character (U+0007)"),
    "names alone": ("id,weight\n7,1\n", "line 1: names no demographic field: age, gender,"),
    "a control character in a narrative": ("narrative\nI am\x07 34.\n", "line 2, narrative: holds a control character"),
    "a comma in a narrative without quotes": (
        "narrative\nI am 34, and a baker.\n",
        "line 2: has 2 fields and the header",
    ),
    "a narrative that is none": ("narrative\nNaN\n", "line 2, narrative: is no value; leave it empty"),
    "nothing but a number": ("id;age\n1;34\n2;\n", "line 3: says nothing of this person"),
    "a decimal comma": (
        "age;weight\n34;0,8\n",
        'line 2: the weight must be a number of 0 or more, such as 0.8, not "0,8"',
    ),
    "a weight left out": ("age,wt\n34,1\n35,\n", 'line 3: the wt must be a number of 0 or more, such as 0.8, not ""'),
    "an infinite weight": ("age,pweight\n34,inf\n", "line 2: the pweight must be a number of 0 or more"),
    "a band upside down": (
        "age\n44-35\n",
        'line 2, age: must be an age ("34") or a band of ages ("35-44", "65+", "under 18")',
    ),
    "a band with two openings": ("age\nunder 18+\n", "must be an age"),
    "a band that is too old": ("age\n110-130\n", "up to 120, not"),
    "lines after an empty one and a text of two": (
        'gender,narrative\n\nF,"two\nlines"\nF,NA\n',
        "line 5, narrative: is no value",
    ),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED_FILES.values(), ids=MALFORMED_FILES)
def test_a_malformed_file_gets_its_message(tmp_path, text, message):
    with pytest.raises(SocratesError) as error:
        listed(tmp_path, text)
    assert message in str(error.value) and "people.csv" in str(error.value)


MALFORMED_POPULATIONS = {
    "a typo": (
        {"size": 4, "religon": HALVES, "educaton": HALVES},
        'the key "educaton" is no known field; did you mean "educ',
    ),
    "a number for a field": ({"size": 4, "people": 9}, '"people" must be shares or counts, such as {"Male"'),
    "a weight": ({"size": 4, "weight": HALVES}, 'the key "weight" goes with persons, in a "csv" or in "personas"'),
    "narratives": ({"size": 4, "narrative": HALVES}, 'the key "narrative" goes with persons'),
    "one field twice": ({"size": 4, "sex": HALVES, "gender": HALVES}, 'the key "gender" means the same as "sex"'),
    "two names of the file": ({"csv": "a.csv", "file": "b.csv"}, '"file" and "csv" mean the same'),
    "a list beside a file": (
        {"csv": "a.csv", "personas": [{"age": 3}]},
        '"personas" does not go with "csv", which says',
    ),
    "shares beside a list": ({"personas": [{"age": 3}], "faith": HALVES}, '"faith" does not go with "personas"'),
    "shares of a field of one's own": (
        {"size": 4, "faith": {"a": 0.5}},
        '"faith" sums to 0.5: must be shares',
    ),
    "a negative share": ({"size": 4, "faith": {"a": -0.5, "b": 1.5}}, '"faith.a": must be at least 0'),
    "bands that overlap at the open end": (
        {"size": 4, "age": {"60-70": 0.5, "65+": 0.5}},
        '"age": "65+": the age 65 is in "60-70" already',
    ),
    "an empty value": ({"size": 4, "faith": {" ": 1.0}}, '"faith": "" names an empty value'),
    "a word for nothing": (
        {"size": 4, "faith": {"None": 1.0}},
        '"faith": "None" is no value; leave it empty where it is not known, or write it out',
    ),
    "a line break": ({"size": 4, "faith": {"a\nb": 1.0}}, '"a\\nb" holds a line break'),
    "no objects": ({"personas": ["Ann"]}, "personas"),
}


@pytest.mark.parametrize(("described", "message"), MALFORMED_POPULATIONS.values(), ids=MALFORMED_POPULATIONS)
def test_a_malformed_population_gets_its_message(described, message):
    with pytest.raises(SocratesError) as error:
        population(**described)
    assert message in str(error.value) and "experiment.json: 1 problem" in str(error.value)


MALFORMED_OBJECTS = {
    "a list": ([{"age": 3}, {"gender": ["F"]}], 'person 2, gender: must be a text or a number, not ["F"]'),
    "true": ([{"gender": True}], "person 1, gender: must be a text or a number, not true"),
    "a weight that is true": ([{"age": 3, "weight": True}], "person 1, weight: must be a text or a number, not true"),
    "one without a weight": ([{"age": 3, "weight": 2}, {"age": 3}], "person 2: the weight must be a number of 0"),
    "nobody": ([{}], "names no demographic field"),
    "none": ([], "names no demographic field"),
    "weights of 0": ([{"age": 3, "weight": 0}], "all weights are 0"),
    "many": ([{"age": -1}] * 12, "11 problems"),
}


@pytest.mark.parametrize(("personas", "message"), MALFORMED_OBJECTS.values(), ids=MALFORMED_OBJECTS)
def test_malformed_personas_in_the_experiment_or_in_json_get_their_message(tmp_path, personas, message):
    with pytest.raises(SocratesError) as error:
        population(personas=personas).personas(tmp_path, 0)
    assert message in str(error.value) and str(error.value).startswith('"population.personas": ')
    (tmp_path / "people.json").write_text(json.dumps(personas))
    with pytest.raises(SocratesError) as error:
        read_personas(tmp_path / "people.json")
    if personas and personas[0]:
        assert message.replace("person ", "row ") in str(error.value)


def test_free_fields_follow_those_of_the_data_set_in_margins_and_files(tmp_path):
    margins = {"years in town": {"0-5": 0.25, "more": 0.75}, "Race": {"White": 1.0}, "religion": HALVES, "sex": HALVES}
    people = population(size=40, **margins).personas(tmp_path, 3)
    assert list(people) == ["weight", "gender", "ethnicity", "years in town", "religion"]
    assert unseen(people) == ["years in town", "religion"]
    assert people["years in town"].value_counts().to_dict() == {"0-5": 10, "more": 30}  # no ages, although they look so
    own = pd.crosstab(people["religion"], people["gender"])
    assert own.to_numpy().min() > 0  # shuffled apart from each other
    found = listed(tmp_path, "religion,narrative,Party ID,hobby\nBuddhist,x,Democrat,chess\n")
    assert list(found) == ["weight", "party_id", "religion", "hobby", "narrative"] and unseen(found) == [
        "religion",
        "hobby",
    ]


def test_a_population_is_recorded_as_it_was_described():
    described = {"personas": [{"age": 34}], "size": 4}
    for key in ("personas", "size"):
        said = {key: described[key]} | ({"faith": {"a": 1.0}} if key == "size" else {})
        assert population(**said).model_dump(exclude_unset=True) == said
    assert population(file="a.tsv").csv == "a.tsv"


def test_columns_are_known_by_meaning_and_what_names_people_is_left_out_and_told(tmp_path, capsys):
    text = "ResponseId,PID,SEX,Education level,party,race,State,wt\n7,a1,F,BA,Ind,Asian,TX,2\n8,a2,M,BA,,White,NY,0.5\n"
    found = listed(tmp_path, text)
    columns = ["weight", "gender", "education", "party_id", "ethnicity", "location"]
    assert list(found) == columns and found["weight"].tolist() == [2, 0.5]
    assert '"ResponseId", "PID"' in capsys.readouterr().out
    clean = clean_personas(pd.DataFrame({"sex": ["F"], "id": [3]}, [17]), "answers.csv")
    assert clean.index.tolist() == [17] and clean.attrs["left_out"] == ["id"]


SPANISH = [("34", "Mujer", "Sí, a veces; ¿y tú?"), ("51", "Hombre", "No")]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_encodings_and_line_ends_are_found_out(tmp_path, separator, encoding, ends):
    rows = [separator.join(f'"{value}"' for value in row) for row in (("age", "sex", "opinión"), *SPANISH)]
    found = listed(tmp_path, ends.join([*rows, separator * 2, ""]), encoding=encoding)
    assert found.drop(columns="weight").to_numpy().tolist() == [list(row) for row in SPANISH]
    assert list(found) == ["weight", "age", "gender", "opinión"]


def test_objects_excel_and_lines_hold_the_same_people_as_a_list_in_the_experiment(tmp_path):
    people = [
        {"id": 1, "age": 34, "gender": "Female", "narrative": "Bakes.\nSings.", "weight": 1.2},
        {"id": 2, "age": None, "gender": "Male", "narrative": None, "weight": 1},
    ]
    wanted = population(personas=people).personas(tmp_path, 0)
    assert wanted["narrative"][0] == "Bakes.\nSings." and wanted["weight"].tolist() == [1.2, 1]
    (tmp_path / "a.json").write_text(json.dumps([{"demographic": person} for person in people]))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(person) + "\n" for person in people))
    frame = pd.DataFrame(people)
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    frame.to_csv(tmp_path / "a.tsv", sep="\t")  # with the index, whose column has no name
    frame.to_stata(tmp_path / "a.dta", write_index=False, version=118)
    for name in ("a.json", "a.jsonl", "a.xlsx", "a.tsv", "a.dta"):
        found = population(file=name).personas(tmp_path, 0)
        pd.testing.assert_frame_equal(found, wanted, check_dtype=False, obj=name)


def test_a_narrative_alone_is_a_person(tmp_path):
    found = listed(tmp_path, '"Narrative"\r\n"I am 34, from Ohio.\r\nI bake."\r\n')
    assert list(found) == ["weight", "narrative"] and found["narrative"][0] == "I am 34, from Ohio.\nI bake."


def test_bands_of_ages_end_where_the_page_says():
    said = {"35-44": (35, 44), "35 – 44 years old": (35, 44), "18 to 24": (18, 24), "65+": (65, 90), "34": (34, 34)}
    said |= {"65 and over": (65, 90), "95+": (95, 95), "Under 18": (13, 17), "<13": (12, 12), "under 1": (0, 0)}
    assert {age: (years_of(age)[0], years_of(age)[-1]) for age in said} == said
    assert not any(map(len, map(years_of, ("", "old", "under 0", "18-", "+65", "1e2", "065", "18-24-30"))))


def test_bands_of_ages_in_margins_are_spread_and_of_a_person_drawn_once_by_the_seed(tmp_path):
    people = population(size=260, age={"under 18": 0.1, "18-64": 0.4, "65+": 0.5}).personas(tmp_path, 0)
    ages = people["age"].astype(int)
    assert np.bincount(ages)[65:].tolist() == [5] * 26 and ((ages >= 13) & (ages < 18)).sum() == 26
    text = "age,gender\n" + "18-29,F\n65+,M\n40,F\n" * 400
    found = listed(tmp_path, text, seed=1)
    years = found["age"].astype(int).to_numpy().reshape(400, 3)
    assert set(years[:, 0]) == {*range(18, 30)} and set(years[:, 1]) == {*range(65, 91)} and set(years[:, 2]) == {40}
    assert found.equals(listed(tmp_path, text, seed=1)) and not found.equals(listed(tmp_path, text, seed=2))
    known = listed(tmp_path, text.replace("40", "40-49"), seed=1)  # what is said of one person moves no other's year
    assert (known["age"].to_numpy().reshape(400, 3)[:, :2] == years[:, :2].astype(str)).all()


def test_a_joint_table_is_a_list_with_shares(tmp_path):
    found = listed(tmp_path, "gender,age,share\nFemale,18-29,0.12\nFemale,30-90,0.4\nMale,18-90,0.48\n")
    assert found["weight"].tolist() == [0.12, 0.4, 0.48] and found["age"].str.fullmatch("[0-9]{2}").all()


def test_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "a.csv").write_text('age,narrative\n\n34,"two\nlines"\n , \n35,one\n')
    assert read_table(tmp_path / "a.csv").index.tolist() == [4, 6]
