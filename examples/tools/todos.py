"""A to-do list kept in memory, one per app."""

from dataclasses import dataclass, field
from itertools import count
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from examples.tools.matching import ForgivingEnum
from examples.tools.parameters import IsoDate
from examples.tools.service import CONFLICT, new_router, new_service

router = new_router()

MAX_TODOS = 1000


class Status(ForgivingEnum):
    """Which todos to list."""

    OPEN = "open"
    DONE = "done"
    ALL = "all"


class NewTodo(BaseModel):
    title: str = Field(description="what to do", min_length=1, max_length=200)
    due: IsoDate | SkipJsonSchema[None] = Field(
        default=None,
        description="due date as YYYY-MM-DD",
        json_schema_extra=lambda schema: schema.pop("default", None),
    )


class Todo(BaseModel):
    id: int
    title: str
    due: IsoDate | None = None
    done: bool = False


class TodoListing(BaseModel):
    count: int
    todos: list[Todo]


class Deleted(BaseModel):
    id: int
    deleted: bool


@dataclass
class TodoStore:
    """Todos by id; ids are never used twice."""

    todos: dict[int, Todo] = field(default_factory=dict)
    ids: count = field(default_factory=lambda: count(1))

    def get(self, todo_id: int) -> Todo:
        """The todo with this id, or a 404."""
        found = self.todos.get(todo_id)
        if found is None:
            raise HTTPException(status_code=404, detail=f"No todo with id {todo_id}.")
        return found


def _store(request: Request) -> TodoStore:
    return request.app.state.todos


Store = Annotated[TodoStore, Depends(_store)]
TodoId = Annotated[int, Path(alias="id", description="todo id", ge=1)]


@router.post(
    "/todos",
    operation_id="add_todo",
    summary="Add a todo; gives its id",
    responses=CONFLICT,
)
async def add_todo(body: NewTodo, store: Store) -> Todo:
    """Add, create or write down a task, reminder, note or thing to do on the to-do list, with an optional due
    date or deadline. Remember to do something, remind me to."""
    if len(store.todos) >= MAX_TODOS:
        raise HTTPException(status_code=409, detail=f"The list is full: at most {MAX_TODOS} todos are kept.")
    todo = Todo(id=next(store.ids), title=body.title.strip(), due=body.due)
    store.todos[todo.id] = todo
    return todo


@router.get("/todos", operation_id="list_todos", summary="Todos on the list, with their ids")
async def list_todos(
    store: Store, status: Annotated[Status, Query(description="open, done or all")] = Status.OPEN
) -> TodoListing:
    """List or show the tasks, reminders and things to do on the to-do list, and how many there are: the open
    ones (left, pending, unfinished), the done ones (finished, completed) or all."""
    chosen = [todo for todo in store.todos.values() if status is Status.ALL or todo.done is (status is Status.DONE)]
    return TodoListing(count=len(chosen), todos=chosen)


@router.post(
    "/todos/{id}/complete",
    operation_id="complete_todo",
    summary="Mark a todo as done, by id",
)
async def complete_todo(todo_id: TodoId, store: Store) -> Todo:
    """Mark, tick or check off a task or todo as done, finished or completed, by its id."""
    todo = store.get(todo_id)
    todo.done = True
    return todo


@router.delete("/todos/{id}", operation_id="delete_todo", summary="Delete a todo, by id")
async def delete_todo(todo_id: TodoId, store: Store) -> Deleted:
    """Delete, remove or erase a task, reminder or todo from the to-do list, by its id."""
    del store.todos[store.get(todo_id).id]
    return Deleted(id=todo_id, deleted=True)


def create_app() -> FastAPI:
    """The todos service, with an empty list of its own."""
    app = new_service("Todos", "A to-do list.", router)
    app.state.todos = TodoStore()
    return app
