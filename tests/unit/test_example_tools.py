"""The example tool services, called the way an agent calls them: over HTTP, service by service."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.tools.server import FACTORIES, create_app

OPERATIONS = 39
METHODS = ("get", "post", "delete")


@pytest.fixture(scope="module")
def client() -> TestClient:
    """Services without state are shared; tests of todos and rooms take a fresh client."""
    return TestClient(create_app())


@pytest.fixture
def fresh() -> TestClient:
    return TestClient(create_app())


def operations(client: TestClient) -> list[dict[str, Any]]:
    documents = [client.get(path).json() for path in client.get("/").json().values()]
    items = [item for document in documents for item in document["paths"].values()]
    return [operation for item in items for method, operation in item.items() if method in METHODS]


def test_every_operation_is_named_summarised_and_described(client: TestClient) -> None:
    found = operations(client)
    names = [operation["operationId"] for operation in found]
    assert len(found) == OPERATIONS
    assert len(set(names)) == OPERATIONS
    for operation in found:
        assert 0 < len(operation["summary"]) <= 90
        assert len(operation["description"]) > len(operation["summary"])
        assert {"404", "422"} <= set(operation["responses"])
        for parameter in operation.get("parameters", []):
            assert 0 < len(parameter["description"].split()) <= 6
            assert "anyOf" not in parameter["schema"]


def test_every_body_field_is_flat_and_described(client: TestClient) -> None:
    for name in FACTORIES:
        document = client.get(f"/{name}/openapi.json").json()
        for item in document["paths"].values():
            body = item.get("post", {}).get("requestBody")
            if body is None:
                continue
            model = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            for field in document["components"]["schemas"][model]["properties"].values():
                assert 0 < len(field["description"].split()) <= 6
                assert "anyOf" not in field


def test_the_root_lists_each_service_and_is_healthy(client: TestClient) -> None:
    assert client.get("/").json()["rooms"] == "/rooms/openapi.json"
    assert client.get("/rooms/openapi.json").json()["servers"] == [{"url": "/rooms"}]
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/countries/countries/usa", {"country": "United States", "capital": "Washington", "currency": "USD"}),
        ("/countries/countries/Holland", {"country": "The Netherlands", "calling_code": "+31"}),
        ("/countries/countries/portugal/neighbours", {"count": 1, "neighbours": ["Spain"]}),
        ("/countries/continents/africa/countries?by=area&limit=1", {"continent": "Africa", "by": "area"}),
        ("/countries/currencies/yen", {"code": "JPY", "countries": ["Japan"], "countries_count": 1}),
        ("/countries/languages/German", {"code": "de", "native_name": "Deutsch"}),
        ("/cities/cities/sao%20paulo", {"city": "São Paulo", "country": "Brazil"}),
        ("/cities/cities/Paris?country=US", {"city": "Paris", "timezone": "America/Chicago"}),
        ("/cities/cities/Washington", {"country": "United States"}),
        ("/cities/distance?from_city=Paris&to_city=Berlin&unit=Miles", {"distance": 545.8, "unit": "miles"}),
        ("/cities/nearest?latitude=48.85&longitude=2.35", {"city": "Paris", "country": "France"}),
        ("/airports/airports/mad", {"code": "MAD", "country": "Spain", "elevation_ft": 2001}),
        ("/airports/airports/CDG/distance/JFK", {"from_code": "CDG", "to_code": "JFK", "unit": "km"}),
        ("/holidays/holidays/France/on/2026-07-14", {"is_holiday": True, "name": "National Day"}),
        ("/holidays/holidays/Germany/next?after=2026-12-26", {"name": "New Year's Day", "date": "2027-01-01"}),
        ("/holidays/holidays/US/find?year=2026&name=thanksgiving", {"date": "2026-11-26"}),
        ("/holidays/holidays/US/count?year=2026", {"count": 11}),
        ("/clock/now?timezone=Tokyo", {"timezone": "Asia/Tokyo"}),
        ("/clock/difference?from_timezone=London&to_timezone=Mumbai&date=2026-07-01", {"hours": 4.5}),
        ("/clock/difference?from_timezone=UTC&to_timezone=UTC%2B2&date=2026-07-01", {"hours": 2.0}),
        ("/clock/weekdays/2026-05-04", {"weekday": "Monday"}),
        ("/clock/days?start=2026-01-01&end=2026-12-25", {"days": 358}),
        ("/clock/shift?date=2026-01-01&days=-3", {"date": "2025-12-29", "weekday": "Monday"}),
        ("/maths/factors/60", {"factors": [2, 2, 3, 5], "is_prime": False}),
        ("/sky/sun/Madrid/2026-06-21", {"sunrise": "06:45", "sunset": "21:48", "day_length": "15:03"}),
        ("/sky/moon/2026-05-01", {"phase": "full moon"}),
        ("/elements/elements/iron", {"symbol": "Fe", "number": 26, "density": 7.87}),
        ("/elements/numbers/79", {"name": "gold"}),
        ("/elements/molar-mass/Ca(OH)2", {"grams_per_mole": 74.09}),
    ],
)
def test_a_question_gets_its_answer(client: TestClient, path: str, expected: dict[str, Any]) -> None:
    response = client.get(path)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert {key: answer.get(key) for key in expected} == expected
    assert None not in answer.values()


def test_the_largest_cities_come_first(client: TestClient) -> None:
    cities = client.get("/cities/countries/uk/cities", params={"limit": 2}).json()["cities"]
    assert [city["city"] for city in cities] == ["London", "Birmingham"]


def test_the_airports_of_a_city_include_the_one_in_the_next_town(client: TestClient) -> None:
    airports = client.get("/airports/airports", params={"city": "Tokyo"}).json()["airports"]
    assert {"HND", "NRT"} <= {airport["code"] for airport in airports}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/clock/convert",
            {"time": "2026-05-04 09:00", "from_timezone": "New York", "to_timezone": "Asia/Tokyo"},
            {"time": "2026-05-04 22:00", "weekday": "Monday"},
        ),
        ("/units/convert", {"value": 100, "from_unit": "C", "to_unit": "Fahrenheit"}, {"result": 212}),
        ("/units/convert", {"value": 10, "from_unit": "Miles", "to_unit": "km"}, {"result": 16.0934}),
        ("/maths/calculate", {"expression": "(3 + 4) * 2^5"}, {"result": 224}),
        ("/maths/calculate", {"expression": "sqrt(2)"}, {"result": 1.414214}),
        ("/maths/calculate", {"expression": "0.1 + 0.2"}, {"result": 0.3}),
        ("/maths/solve", {"equation": "2x + 3 = 7"}, {"solutions": [2]}),
        ("/maths/solve", {"equation": "y^2 = 2", "variable": "y"}, {"solutions": [-1.414214, 1.414214]}),
        ("/maths/solve", {"equation": "(x^2-1)/(x-1) = 0"}, {"solutions": [-1]}),
        ("/maths/solve", {"equation": "x**2 = -1"}, {"solutions": []}),
        ("/maths/statistics", {"numbers": [1, 2, 6]}, {"mean": 3, "median": 2, "total": 9, "count": 3}),
    ],
)
def test_a_computation_gets_its_result(
    client: TestClient, path: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert {key: response.json().get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/countries/countries/Frnace", 404, "No country named 'Frnace'. Did you mean 'France'?"),
        ("/countries/continents/Asia/countries?limit=0", 422, "limit must be at least 1"),
        ("/cities/cities/Madird", 404, "No city named 'Madird'. Did you mean 'Madrid'?"),
        ("/cities/cities/Xyzzyq", 404, "No city named 'Xyzzyq'."),
        ("/cities/distance?from_city=Paris", 422, "to_city is required"),
        ("/airports/airports/ZZZ", 404, "No airport with code 'ZZZ'. Codes have three letters, like MAD."),
        ("/holidays/holidays/France/on/14-07-2026", 422, "date: expected YYYY-MM-DD"),
        ("/clock/now?timezone=Europe/Pariss", 404, "No timezone named 'Europe/Pariss'. Did you mean 'Europe/Paris'?"),
        ("/clock/shift?date=9999-12-31&days=3", 422, "the resulting date is outside the calendar"),
        ("/maths/factors/1", 422, "number must be at least 2"),
        (
            "/sky/sun/Tromso/2026-06-21",
            422,
            "In Tromsø the sun is up all day (polar day) on 2026-06-21: no sunrise or sunset.",
        ),
        ("/elements/elements/oxigen", 404, "No element named 'oxigen'. Did you mean 'oxygen'?"),
        (
            "/elements/molar-mass/h2o",
            422,
            "'h2o' is not a chemical formula; write symbols with capitals, like H2O.",
        ),
        ("/todos/todos?status=late", 422, "status must be open, done or all"),
        ("/rooms/free?date=2026-05-04&hour=20", 422, "hour must be at most 18"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(client: TestClient, path: str, status: int, detail: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


def test_an_unknown_holiday_is_answered_with_some_that_exist(client: TestClient) -> None:
    response = client.get("/holidays/holidays/US/find", params={"year": 2026, "name": "Bastille"})
    assert response.status_code == 404
    assert "Memorial Day" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"value": 1, "from_unit": "kg", "to_unit": "km"}, 422, "kg cannot be converted to km"),
        ({"value": 1, "from_unit": "killometer", "to_unit": "km"}, 404, "Did you mean 'kilometer'?"),
        ({"value": 1, "from_unit": "m**99999", "to_unit": "km"}, 404, "No unit named"),
    ],
)
def test_a_conversion_without_meaning_is_refused(
    client: TestClient, body: dict[str, Any], status: int, detail: str
) -> None:
    response = client.post("/units/convert", json=body)
    assert response.status_code == status
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    "expression",
    ["9**9**9", "__import__('os')", "1/0", "(1).real", "10**400*10**400", "exp(1000)", "2 +", "1e309", "[1]", "max()"],
)
def test_arithmetic_that_is_unsafe_or_undefined_is_refused(client: TestClient, expression: str) -> None:
    response = client.post("/maths/calculate", json={"expression": expression})
    assert response.status_code == 422
    assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize(
    "equation",
    [
        "9**9**9 = x",
        "((x+1)**12)**12 = 5",
        "+".join(f"1/(x+{shift})**12" for shift in range(1, 14)) + "=1",
        "x = x",
        "x + 1",
        "2**x = 8",
        "1e309 = x",
        "x = " + "*".join(["((99**12)**12)"] * 12),
    ],
)
def test_an_equation_that_is_too_large_or_undecided_is_refused(client: TestClient, equation: str) -> None:
    response = client.post("/maths/solve", json={"equation": equation})
    assert response.status_code == 422
    assert isinstance(response.json()["detail"], str)


def test_a_todo_is_added_listed_completed_and_deleted(fresh: TestClient) -> None:
    added = fresh.post("/todos/todos", json={"title": "buy milk", "due": "2026-05-04"}).json()
    assert added == {"id": 1, "title": "buy milk", "due": "2026-05-04", "done": False}
    assert fresh.get("/todos/todos").json() == {"count": 1, "todos": [added]}
    assert fresh.post("/todos/todos/1/complete").json()["done"] is True
    assert fresh.get("/todos/todos").json()["count"] == 0
    assert fresh.get("/todos/todos", params={"status": "Done"}).json()["count"] == 1
    assert fresh.delete("/todos/todos/1").json() == {"id": 1, "deleted": True}
    assert fresh.delete("/todos/todos/1").json() == {"detail": "No todo with id 1."}


def test_a_todo_without_a_usable_due_date_is_refused(fresh: TestClient) -> None:
    response = fresh.post("/todos/todos", json={"title": "x", "due": "soon"})
    assert (response.status_code, response.json()) == (422, {"detail": "due: expected YYYY-MM-DD"})


def test_a_full_todo_list_takes_no_more(fresh: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.tools.todos.MAX_TODOS", 1)
    assert fresh.post("/todos/todos", json={"title": "first"}).status_code == 200
    assert fresh.post("/todos/todos", json={"title": "second"}).status_code == 409


def test_a_taken_room_is_refused_with_the_free_ones(fresh: TestClient) -> None:
    booking = {"room": "cedar", "date": "2026-05-04", "hour": 14, "name": "Ana"}
    response = fresh.post("/rooms/bookings", json=booking)
    assert response.status_code == 409
    assert response.json()["detail"] == "Cedar is taken at 14:00 on 2026-05-04. Free rooms: Amber, Dune."


def test_a_booked_room_is_free_again_once_cancelled(fresh: TestClient) -> None:
    hour = {"date": "2026-05-04", "hour": 14}
    booked = fresh.post("/rooms/bookings", json={"room": "Dune", "name": "Ana", **hour}).json()
    assert booked["room"] == "Dune"
    assert fresh.get("/rooms/free", params=hour).json()["rooms"] == [{"room": "Amber", "seats": 4}]
    cancelled = fresh.delete(f"/rooms/bookings/{booked['booking_id']}").json()
    assert cancelled == {"booking_id": booked["booking_id"], "cancelled": True}
    assert {"room": "Dune", "seats": 20} in fresh.get("/rooms/free", params=hour).json()["rooms"]
    assert fresh.delete("/rooms/bookings/99").json() == {"detail": "No booking with id 99."}


def test_two_apps_do_not_share_their_state(fresh: TestClient, client: TestClient) -> None:
    fresh.post("/todos/todos", json={"title": "mine"})
    assert client.get("/todos/todos").json() == {"count": 0, "todos": []}


def test_the_current_time_has_the_documented_shape(client: TestClient) -> None:
    now = client.get("/clock/now", params={"timezone": "Europe/Paris"}).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", now["date"])
    assert re.fullmatch(r"\d\d:\d\d", now["time"])
