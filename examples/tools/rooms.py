"""Meeting rooms that can be booked by the hour, kept in memory, one set per app."""

from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from pydantic import BaseModel, Field

from examples.tools.matching import ForgivingEnum
from examples.tools.parameters import DayQuery, IsoDate
from examples.tools.service import CONFLICT, new_router, new_service

router = new_router()

MAX_BOOKINGS = 1000
FIRST_HOUR, LAST_HOUR = 8, 18


class Room(ForgivingEnum):
    """The rooms, smallest first."""

    AMBER = "Amber"
    BIRCH = "Birch"
    CEDAR = "Cedar"
    DUNE = "Dune"


SEATS = {Room.AMBER: 4, Room.BIRCH: 8, Room.CEDAR: 12, Room.DUNE: 20}
# Present from the start, so that conflicts can be met without booking first.
SEEDED = (
    (Room.BIRCH, date(2026, 5, 4), 14, "Design review"),
    (Room.CEDAR, date(2026, 5, 4), 14, "Planning"),
    (Room.AMBER, date(2026, 5, 5), 9, "Interview"),
    (Room.DUNE, date(2026, 5, 6), 10, "All hands"),
)


class FreeRoom(BaseModel):
    room: Room
    seats: int


class FreeRooms(BaseModel):
    date: date
    hour: int
    rooms: list[FreeRoom]


class NewBooking(BaseModel):
    room: Room = Field(description="room name")
    day: IsoDate = Field(alias="date", description="date as YYYY-MM-DD")
    hour: int = Field(description="hour from 8 to 18", ge=FIRST_HOUR, le=LAST_HOUR)
    name: str = Field(description="who or what it is for", min_length=1, max_length=100)


class Booking(BaseModel):
    booking_id: int
    room: Room
    date: date
    hour: int
    name: str


class Cancelled(BaseModel):
    booking_id: int
    cancelled: bool


@dataclass
class BookingStore:
    """Bookings by id; ids are never used twice."""

    bookings: dict[int, Booking] = field(default_factory=dict)
    ids: count = field(default_factory=lambda: count(1))

    def free(self, day: date, hour: int) -> list[Room]:
        """The rooms nobody has at this hour."""
        taken = {booking.room for booking in self.bookings.values() if (booking.date, booking.hour) == (day, hour)}
        return [room for room in Room if room not in taken]

    def book(self, room: Room, day: date, hour: int, name: str) -> Booking:
        """Book a room, or answer 409 when it is taken or the book is full."""
        if len(self.bookings) >= MAX_BOOKINGS:
            raise HTTPException(status_code=409, detail=f"The book is full: at most {MAX_BOOKINGS} bookings are kept.")
        free = self.free(day, hour)
        if room not in free:
            others = ", ".join(other.value for other in free) or "none"
            detail = f"{room.value} is taken at {hour:02d}:00 on {day}. Free rooms: {others}."
            raise HTTPException(status_code=409, detail=detail)
        booking = Booking(booking_id=next(self.ids), room=room, date=day, hour=hour, name=name)
        self.bookings[booking.booking_id] = booking
        return booking


def _store(request: Request) -> BookingStore:
    return request.app.state.bookings


Store = Annotated[BookingStore, Depends(_store)]


@router.get("/free", operation_id="free_rooms", summary="Meeting rooms free on a date at an hour, with seats")
async def free_rooms(
    store: Store,
    day: DayQuery,
    hour: Annotated[int, Query(description="hour from 8 to 18", ge=FIRST_HOUR, le=LAST_HOUR)],
) -> FreeRooms:
    """Which meeting rooms are free, available or not booked on a date at an hour, and how many seats or people
    each holds (capacity)."""
    rooms = [FreeRoom(room=room, seats=SEATS[room]) for room in store.free(day, hour)]
    return FreeRooms(date=day, hour=hour, rooms=rooms)


@router.post(
    "/bookings", operation_id="book_room", summary="Book a meeting room for an hour; gives an id", responses=CONFLICT
)
async def book_room(body: NewBooking, store: Store) -> Booking:
    """Book, reserve or schedule a meeting room (Amber, Birch, Cedar or Dune) for one hour on a date, under a
    name. Make a reservation for a meeting."""
    return store.book(body.room, body.day, body.hour, body.name)


@router.delete("/bookings/{booking_id}", operation_id="cancel_booking", summary="Cancel a room booking, by id")
async def cancel_booking(booking_id: Annotated[int, Path(description="booking id", ge=1)], store: Store) -> Cancelled:
    """Cancel, delete or undo a meeting room booking or reservation, by its booking id, so the room is free."""
    if store.bookings.pop(booking_id, None) is None:
        raise HTTPException(status_code=404, detail=f"No booking with id {booking_id}.")
    return Cancelled(booking_id=booking_id, cancelled=True)


def create_app() -> FastAPI:
    """The rooms service, with the seeded bookings."""
    app = new_service("Rooms", "Meeting rooms booked by the hour.", router)
    store = BookingStore()
    for booking in SEEDED:
        store.book(*booking)
    app.state.bookings = store
    return app
