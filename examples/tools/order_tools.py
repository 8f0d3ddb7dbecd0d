"""A tool that is a Python function. The worker imports it: PYTHONPATH must hold this folder."""

from typing import Annotated

from pydantic import Field

from worker.tools.context import ToolContext, ToolError

# Replace this with a query of your own database.
ORDERS = {"4711": ("visitor-1", "shipped"), "4712": ("visitor-2", "packed")}


def order_status(
    number: Annotated[str, Field(description="The order number, four digits.")],
    context: ToolContext,
) -> dict[str, str]:
    """Return the status of an order of this customer."""
    owner, status = ORDERS.get(number, ("", ""))
    # Check the user of the context: the model believes any claim of the customer.
    if owner != context.user:
        raise ToolError("This customer has no order of that number.")
    return {"number": number, "status": status}
