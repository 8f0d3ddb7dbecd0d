"""Text messages through Telnyx: SMS, MMS and WhatsApp."""
